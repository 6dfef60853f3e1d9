"""What an Estimator calls to train as one worker of a cluster: `tensorflow.python.distribute.estimator_training`.

TensorFlow 2.16 removed that module; this one takes its place (see estimator_compat.py). It covers what this project
uses: workers that run a program each ("independent workers"), with a strategy.
"""

from __future__ import annotations

import copy
from typing import Any

from tensorflow.python.distribute import distribute_coordinator
from tensorflow.python.distribute.distribute_coordinator_context import get_current_worker_context
from tensorflow.python.training import server_lib


def init_run_config(config: Any, tf_config: dict[str, Any]) -> None:
    """Set the cluster of a RunConfig that has a strategy; `tf_config` is the parsed variable TF_CONFIG."""
    cluster = server_lib.ClusterSpec(tf_config.get("cluster", {}))
    several = bool(cluster) and bool(config.train_distribute)
    # in a cluster, the coordinator sets the task later: `_set_place`
    config._init_distributed_setting_from_environment_var({} if several else tf_config)
    config._distribute_coordinator_mode = None
    if several:
        config._cluster_spec = cluster
        config._distribute_coordinator_mode = distribute_coordinator.CoordinatorMode.INDEPENDENT_WORKER
    else:
        config._maybe_overwrite_session_config_for_distributed_training()


def should_run_distribute_coordinator(config: Any) -> bool:
    """Tell whether an Estimator with this RunConfig trains as one worker of a cluster."""
    return bool(getattr(config, "_distribute_coordinator_mode", None)) and bool(config.cluster_spec)


def train_and_evaluate(estimator: Any, train_spec: Any, eval_spec: Any, executor: type) -> None:
    """Train as the task that the coordinator gives this process; an evaluator has no strategy and never gets here."""
    del eval_spec, executor

    def train(strategy: Any) -> None:
        worker = copy.copy(estimator)
        worker._config = copy.copy(estimator.config)
        worker._train_distribution = worker._config._train_distribute = strategy
        worker._config._distribute_coordinator_mode = None  # otherwise `train` would call the coordinator again
        _set_place(worker._config, get_current_worker_context())
        worker.train(train_spec.input_fn, hooks=list(train_spec.hooks), max_steps=train_spec.max_steps)

    distribute_coordinator.run_distribute_coordinator(
        train,
        estimator.config.train_distribute,
        eval_fn=train,
        mode=estimator.config._distribute_coordinator_mode,
        session_config=estimator.config.session_config,
    )


def _set_place(config: Any, context: Any) -> None:
    """Set in a RunConfig which task of the cluster this process is."""
    jobs = context.cluster_spec.as_dict()
    chiefs, workers = (len(jobs.get(job, [])) for job in ("chief", "worker"))
    config._cluster_spec, config._service = context.cluster_spec, None
    config._task_type, config._task_id, config._is_chief = context.task_type, context.task_id, context.is_chief
    config._master = config._evaluation_master = context.master_target
    config._num_ps_replicas, config._num_worker_replicas = 0, chiefs + workers
    config._global_id_in_cluster = context.task_id + (chiefs if context.task_type == "worker" else 0)

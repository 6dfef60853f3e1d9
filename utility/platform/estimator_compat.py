"""`tf.estimator` on a TensorFlow that no longer has it.

tensorflow-estimator ended with release 2.15, and TensorFlow 2.16 removed the code that connected the two. The
Estimator itself still runs. What TensorFlow lacks now, and what takes its place:

1. `tf.layers`: it belongs to Keras 2, and TensorFlow now comes with Keras 3. TF_USE_LEGACY_KERAS=1, which `utility`
   sets before TensorFlow is imported, makes TensorFlow take Keras 2 from the package tf_keras.
2. `tensorflow.python.util.tf_export`, the registry of public names, no longer has the API "estimator" that every
   class of tensorflow-estimator is exported to: `_register_api` adds it.
3. `tensorflow.python.distribute.estimator_training`, which sets up an Estimator as one worker of a cluster, is gone;
   the distribute coordinator that it calls is still there: `_estimator_training` is a module in its place.
4. `tensorflow_estimator/__init__.py` imports the TPU estimators, whose counterpart in TensorFlow is gone: `_package`
   is the package without that file, so that only the modules in `_PUBLIC` are imported.
5. The name `tf.estimator`: `install` sets it, with the names in `_PUBLIC`, which are those that this project uses.
"""

from __future__ import annotations

import copy
import importlib
import sys
from importlib import metadata, util
from types import ModuleType, SimpleNamespace
from typing import Any

# Distributions, and the releases of each whose insides this file has been tested with.
KNOWN = {"tensorflow": "2.21", "tf-keras": "2.21", "tensorflow-estimator": "2.15"}

_NAME = "estimator"
_PACKAGE = "tensorflow_estimator"
_TRAINING = "tensorflow.python.distribute.estimator_training"
_PUBLIC = {
    "estimator": ("Estimator",),
    "exporter": ("Exporter",),
    "mode_keys": ("ModeKeys",),
    "model_fn": ("EstimatorSpec",),
    "run_config": ("RunConfig",),
    "training": ("EvalSpec", "TrainSpec", "train_and_evaluate"),
}


def check_releases() -> None:
    """Raise a ValueError that names the first distribution which is not installed in the release known here."""
    for distribution, known in KNOWN.items():
        try:
            version = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            version = "not installed"
        if not f"{version}.".startswith(f"{known}."):
            raise ValueError(
                f"{distribution} is {version}, but only {known} is known to give tf.estimator here: install"
                " requirements.lock, as `make venv` does"
            )


def install(tf: Any) -> None:
    """Make `tf.estimator` of the module `tensorflow.compat.v1`, once; the releases are those of `check_releases`."""
    if hasattr(tf, _NAME):
        return
    _register_api()
    sys.modules[_TRAINING] = _estimator_training()
    sys.modules[_PACKAGE] = _package()
    modules = {name: importlib.import_module(f"{_PACKAGE}.python.estimator.{name}") for name in _PUBLIC}
    names = {name: getattr(modules[module], name) for module, names in _PUBLIC.items() for name in names}
    tf.estimator = SimpleNamespace(**names)


def _register_api() -> None:
    tf_export: Any = importlib.import_module("tensorflow.python.util.tf_export")
    tf_export.ESTIMATOR_API_NAME = _NAME
    for attributes, suffix in ((tf_export.API_ATTRS, ""), (tf_export.API_ATTRS_V1, "_v1")):
        kind = type(attributes[tf_export.TENSORFLOW_API_NAME])
        attributes[_NAME] = kind(f"_estimator_api_names{suffix}", f"_estimator_api_constants{suffix}")


def _package() -> ModuleType:
    """Return the package tensorflow_estimator without having run its `__init__.py`."""
    spec = util.find_spec(_PACKAGE)
    assert spec is not None  # check_releases has found it
    package = ModuleType(_PACKAGE)
    package.__spec__, package.__path__ = spec, list(spec.submodule_search_locations or ())
    return package


def _estimator_training() -> ModuleType:
    """Return a module with the functions that an Estimator calls to train as one worker of a cluster.

    They cover what this project uses: workers that run a program each ("independent workers"), with a strategy.
    """
    module = ModuleType(_TRAINING)
    module.__dict__.update(
        init_run_config=_init_run_config,
        should_run_distribute_coordinator=_has_coordinator,
        train_and_evaluate=_train_with_coordinator,
    )
    return module


def _init_run_config(config: Any, tf_config: dict[str, Any]) -> None:
    """Set the cluster of a RunConfig that has a strategy; `tf_config` is the parsed variable TF_CONFIG."""
    from tensorflow.python.distribute import distribute_coordinator  # noqa: PLC0415
    from tensorflow.python.training import server_lib  # noqa: PLC0415

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


def _has_coordinator(config: Any) -> bool:
    return bool(getattr(config, "_distribute_coordinator_mode", None)) and bool(config.cluster_spec)


def _train_with_coordinator(estimator: Any, train_spec: Any, eval_spec: Any, executor: type) -> None:
    """Train as the task that the coordinator gives this process; an evaluator has no strategy and never gets here."""
    del eval_spec, executor
    from tensorflow.python.distribute import distribute_coordinator  # noqa: PLC0415
    from tensorflow.python.distribute.distribute_coordinator_context import (  # noqa: PLC0415
        get_current_worker_context,
    )

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

"""`tf.estimator` on a TensorFlow that no longer has it.

tensorflow-estimator ended with release 2.15, and TensorFlow 2.16 removed the code that connected the two. The
Estimator itself still runs. What TensorFlow lacks now, and what takes its place:

1. `tf.layers`: it belongs to Keras 2, and TensorFlow now comes with Keras 3. TF_USE_LEGACY_KERAS=1, which `utility`
   sets before TensorFlow is imported, makes TensorFlow take Keras 2 from the package tf_keras.
2. `tensorflow.python.util.tf_export`, the registry of public names, no longer has the API "estimator" that every
   class of tensorflow-estimator is exported to: `_register_api` adds it.
3. `tensorflow.python.distribute.estimator_training`, which sets up an Estimator as one worker of a cluster, is gone;
   the distribute coordinator that it calls is still there: estimator_training.py takes its place.
4. `tensorflow_estimator/__init__.py` imports the TPU estimators, whose counterpart in TensorFlow is gone: `_package`
   is the package without that file, so that only the modules in `_PUBLIC` are imported.
5. The name `tf.estimator`: `install` sets it, with the names in `_PUBLIC`, which are those that this project uses.
"""

from __future__ import annotations

import importlib
import sys
from importlib import metadata, util
from types import ModuleType, SimpleNamespace
from typing import Any

from utility.errors import UserError

# Distributions, and the releases of each whose insides this file has been tested with.
KNOWN = {"tensorflow": "2.21", "tf-keras": "2.21", "tensorflow-estimator": "2.15"}

_NAME = "estimator"
_PACKAGE = "tensorflow_estimator"
_TRAINING = "tensorflow.python.distribute.estimator_training"
_PUBLIC = {
    "estimator": ("Estimator",),
    "mode_keys": ("ModeKeys",),
    "model_fn": ("EstimatorSpec",),
    "run_config": ("RunConfig",),
    "training": ("EvalSpec", "TrainSpec", "train_and_evaluate"),
}


def check_releases() -> None:
    """Raise a UserError that names the first distribution which is not installed in the release known here."""
    for distribution, known in KNOWN.items():
        try:
            version = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            version = "not installed"
        if not f"{version}.".startswith(f"{known}."):
            raise UserError(
                f"{distribution} is {version}, but only {known} is known to give tf.estimator here: install"
                " requirements.lock, as `make venv` does"
            )


def install(tf: Any) -> None:
    """Make `tf.estimator` of the module `tensorflow.compat.v1`, once; the releases are those of `check_releases`."""
    if hasattr(tf, _NAME):
        return
    _register_api()
    from utility.startup import estimator_training  # noqa: PLC0415 (imports TensorFlow)

    sys.modules[_TRAINING] = estimator_training
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

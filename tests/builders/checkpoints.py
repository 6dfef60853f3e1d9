"""Checkpoints of given variables."""

import json
from pathlib import Path

import tensorflow.compat.v1 as tf

from tests.builders.weight_files import floats

ONE = {"a": floats([1])}


def save(prefix: Path, variables: dict, **options) -> str:
    """Write a checkpoint of name -> value with TensorFlow's own Saver."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    with tf.Graph().as_default(), tf.Session() as session:
        for name, value in variables.items():
            tf.get_variable(name, initializer=value)
        session.run(tf.global_variables_initializer())
        saver = tf.train.Saver(write_version=options.pop("version", tf.train.SaverDef.V2))
        return saver.save(session, str(prefix), write_meta_graph=False, **options)


def scores_by_step(model_dir):
    """The mAP of each evaluation in a training."""
    return {entry["step"]: entry["mAP"] for entry in json.loads((model_dir / "evaluations.json").read_text())}

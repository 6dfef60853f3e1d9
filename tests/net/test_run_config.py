"""The settings of an Estimator's run."""

import pytest
import tensorflow.compat.v1 as tf

from net.run_config import run_config


@pytest.mark.parametrize(("last_step", "steps"), [(1, 1), (199, 1), (1600, 16), (49_999, 499), (120_000, 500)])
def test_a_short_training_has_a_hundred_points_in_its_curves(last_step, steps, tmp_path):
    """The published 120,000 steps keep the reference's 500."""
    run = run_config(str(tmp_path), tf.ConfigProto(), last_step=last_step)
    assert run.save_summary_steps == steps

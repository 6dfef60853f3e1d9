"""The settings of an Estimator's run."""

import pytest

from net.run_config import suited_summary_steps


@pytest.mark.parametrize(("last_step", "steps"), [(1, 1), (199, 1), (1600, 16), (49_999, 499), (120_000, 500)])
def test_a_short_training_has_a_hundred_points_in_its_curves(last_step, steps):
    """The published 120,000 steps keep the reference's 500."""
    assert suited_summary_steps(last_step) == steps

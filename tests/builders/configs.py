"""What several tests need."""

import numpy as np

from utility.config.presets import preset

VOC_LIKE = tuple(f"class{number}" for number in range(1, 21))


def voc_config(**values):
    """The default preset with 20 classes; values as in {"targets__match_threshold": .5}."""
    settings = {name.replace("__", "."): value for name, value in values.items()}
    return preset("ssd300_voc").replace({"class_names": VOC_LIKE, **settings})


def assert_same_training(variables, others):
    """Hold the variables of two trainings against each other, to 2e-5 of the largest value of each."""
    assert set(variables) == set(others)
    for name, value in others.items():
        tolerance = 2e-5 * max(1.0, np.abs(value).max())
        np.testing.assert_allclose(variables[name], value, atol=tolerance, rtol=0, err_msg=name)

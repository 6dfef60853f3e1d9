"""Fixtures for files of VGG-16."""

import pytest

from tests.builders import weight_files as files


@pytest.fixture(scope="session")
def weights():
    """A VGG-16 with few channels."""
    return files.vgg_weights(files.SMALL, seed=1)

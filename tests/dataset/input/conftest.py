"""Record files that the tests of input functions share, and a stream of batches from them."""

import pytest

from tests.builders.records import config, elements, mixed_images, train_input, twenty_images


@pytest.fixture(scope="session")
def twenty(tmp_path_factory):
    """20 images with a cat each in 5 shards."""
    return twenty_images(tmp_path_factory.mktemp("twenty"))


@pytest.fixture(scope="session")
def mixed(tmp_path_factory):
    """Five images with different objects in 2 shards."""
    return mixed_images(tmp_path_factory.mktemp("mixed"))


@pytest.fixture(scope="session")
def stream(twenty):
    """Three epochs of the 20 images, deterministic."""
    return elements(train_input(twenty, config()), 15)

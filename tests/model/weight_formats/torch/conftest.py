"""Fixtures for files of torch.save."""

import pytest

from tests.builders.weight_files import TORCH_ARRAYS, TORCH_WRITERS


@pytest.fixture(params=TORCH_WRITERS)
def write(request, tmp_path):
    """Write a file in either form; `data` replaces the pickle of the tensors."""
    return lambda data=None, arrays=TORCH_ARRAYS: TORCH_WRITERS[request.param](tmp_path / "file", arrays, data)

"""The zip form of torch.save."""

import zipfile

import numpy as np
import pytest

from model.weight_formats.torch import state_dict
from tests.builders import weight_files as files
from tests.builders.weight_files import TORCH_ARRAYS


def test_big_endian_numbers(tmp_path):
    path = tmp_path / "f"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", files.pickled({"w": files.tensor("0", [2], [1], 2)}))
        archive.writestr("x/byteorder", "big")
        archive.writestr("x/data/0", np.array([1, 2], ">f4").tobytes())
    assert state_dict.read(str(path)).array("w").tolist() == [1, 2]


def test_a_zip_archive_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "f", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ValueError, match=r"no data\.pkl"):
        state_dict.read(str(tmp_path / "f"))


def test_a_compressed_archive_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "f", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", files.pickled({"w": files.tensor("0", [2], [1], 2)}))
    with pytest.raises(ValueError, match="compressed"):
        state_dict.read(str(tmp_path / "f"))


def test_a_changed_number_in_a_zip_archive_is_noticed(tmp_path):
    path = files.write_torch_zip(tmp_path / "f", TORCH_ARRAYS)
    whole = bytearray(path.read_bytes())
    place = whole.index(TORCH_ARRAYS["a.weight"].tobytes())
    whole[place] ^= 1
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"its zip archive is damaged: Bad CRC-32 for file 'archive/data/0'"):
        files.read_all(path)

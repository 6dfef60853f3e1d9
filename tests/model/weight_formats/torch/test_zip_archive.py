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


def test_an_archive_of_very_many_entries_is_refused_unread(tmp_path):
    with zipfile.ZipFile(tmp_path / "f", "w") as archive:
        archive.writestr("x/data.pkl", files.pickled({"w": files.tensor("0", [2], [1], 2)}))
        for number in range(20_000):
            archive.writestr(f"x/data/{number}", b"")
    with pytest.raises(ValueError, match=r"a directory of .* bytes, more than any network has"):
        state_dict.read(str(tmp_path / "f"))


def test_an_archive_in_the_form_of_64_bits_is_read(tmp_path, monkeypatch):
    path = files.write_torch_zip(tmp_path / "f", TORCH_ARRAYS)
    entries = {info.filename: zipfile.ZipFile(path).read(info) for info in zipfile.ZipFile(path).infolist()}
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    with zipfile.ZipFile(tmp_path / "g", "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    assert b"PK\x06\x07" in (tmp_path / "g").read_bytes()
    assert state_dict.read(str(tmp_path / "g")).array("a.bias").tolist() == [0, 1]


def test_a_directory_of_64_bits_that_is_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    with zipfile.ZipFile(tmp_path / "f", "w") as archive:
        for number in range(20_000):
            archive.writestr(f"x/data/{number}", b"")
    with pytest.raises(ValueError, match=r"a directory of .* bytes"):
        state_dict.read(str(tmp_path / "f"))

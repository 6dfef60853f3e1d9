"""The older, sequential form of torch.save."""

import pytest

from model.weight_formats.torch import state_dict
from tests.builders import weight_files as files
from tests.builders.weight_files import TORCH_ARRAYS, number, text


def test_a_view_of_a_storage_in_the_older_form(tmp_path):
    view = files.a_tuple([text("7"), number(4), number(6)])
    data = files.pickled({"w": files.tensor("90", [2], [1], 24, offset=1, view=[view])})
    path = files.write_torch_legacy(tmp_path / "f", {"w": TORCH_ARRAYS["a.weight"]}, data)
    assert state_dict.read(str(path)).array("w").tolist() == [5, 6]


def test_a_view_beyond_its_storage_is_refused(tmp_path):
    view = files.a_tuple([text("7"), number(20), number(6)])
    data = files.pickled({"w": files.tensor("90", [2], [1], 24, view=[view])})
    path = files.write_torch_legacy(tmp_path / "f", {"w": TORCH_ARRAYS["a.weight"]}, data)
    with pytest.raises(ValueError, match="cut off"):
        state_dict.read(str(path)).array("w")


def test_a_pickle_of_something_else_is_refused(tmp_path):
    (tmp_path / "f").write_bytes(b"\x80\x02K\x01." * 3)
    with pytest.raises(ValueError, match=r"not one of torch\.save"):
        state_dict.read(str(tmp_path / "f"))


def test_a_big_endian_machine_is_refused(tmp_path):
    path = files.write_torch_legacy(tmp_path / "f", TORCH_ARRAYS)
    path.write_bytes(path.read_bytes().replace(b"little_endian\x88", b"little_endian\x89"))
    with pytest.raises(ValueError, match="little-endian"):
        state_dict.read(str(path))

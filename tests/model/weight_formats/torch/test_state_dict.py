"""State dicts in both forms of torch.save: the tensors, and damaged files."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.weight_formats.torch import state_dict
from tests.builders import weight_files as files
from tests.builders.weight_files import TORCH_ARRAYS, TORCH_WRITERS, floats, named, number, text


def test_gives_back_what_was_saved(write):
    state = state_dict.read(str(write()))
    assert state.names() == sorted(TORCH_ARRAYS)
    for name, array in TORCH_ARRAYS.items():
        np.testing.assert_array_equal(state.array(name), array)


def test_a_state_dict_inside_a_dictionary_with_plain_values(tmp_path):
    inner = named("collections", "OrderedDict") + b")R(" + text("w") + files.tensor("0", [2], [1], 2) + b"u"
    data = b"\x80\x02}(" + text("epoch") + number(3) + text("state_dict") + inner + b"u."
    path = files.write_torch_zip(tmp_path / "f", {"w": floats([1, 2])}, data)
    assert state_dict.read(str(path)).array("w").tolist() == [1, 2]


@pytest.mark.parametrize("numbers", [60_000, 240_000])
def test_a_state_dict_beside_a_long_list_of_numbers(tmp_path, numbers):
    inner = named("collections", "OrderedDict") + b")R(" + text("w") + files.tensor("0", [2], [1], 2) + b"u"
    losses = b"](" + b"G\x3f\xf0\0\0\0\0\0\0" * numbers + b"e"
    data = b"\x80\x02}(" + text("state_dict") + inner + text("losses") + losses + b"u."
    path = files.write_torch_zip(tmp_path / "f", {"w": floats([1, 2])}, data)
    assert state_dict.read(str(path)).array("w").tolist() == [1, 2]


def test_more_than_a_network_has_is_refused_with_what_to_do(tmp_path):
    path = files.write_torch_zip(tmp_path / "f", {}, b"\x80\x02](" + b"N" * 250_001 + b"e.")
    with pytest.raises(ValueError, match=r"^it has more objects than any network; save only the state_dict$"):
        state_dict.read(str(path))


def test_a_transposed_view_of_a_part_of_a_storage(tmp_path):
    data = files.pickled({"w": files.tensor("0", [3, 2], [1, 4], 24, offset=5)})
    path = files.write_torch_zip(tmp_path / "f", TORCH_ARRAYS, data)
    expected = np.arange(24).reshape(6, 4)[1:3, 1:].T
    np.testing.assert_array_equal(state_dict.read(str(path)).array("w"), expected)


def test_a_parameter_is_the_tensor_in_it(tmp_path):
    inside = files.tensor("0", [2, 3, 4], [12, 4, 1], 24)
    parameter = named("torch._utils", "_rebuild_parameter") + files.a_tuple([inside, b"\x88", files.ORDERED_DICT])
    path = files.write_torch_zip(tmp_path / "f", TORCH_ARRAYS, files.pickled({"w": parameter + b"R"}))
    np.testing.assert_array_equal(state_dict.read(str(path)).array("w"), TORCH_ARRAYS["a.weight"])


@pytest.mark.parametrize("new", [True, False])
def test_what_pytorch_itself_writes(tmp_path, new):
    torch = pytest.importorskip("torch")
    base = torch.arange(24.0).reshape(2, 3, 4)
    saved = {"w": base, "t": base.permute(2, 0, 1), "h": base.half(), "p": torch.nn.Parameter(base[1])}
    torch.save(saved, tmp_path / "f", _use_new_zipfile_serialization=new)
    state = state_dict.read(str(tmp_path / "f"))
    for name, values in saved.items():
        np.testing.assert_array_equal(state.array(name), values.detach().numpy())


@pytest.mark.parametrize(
    "view",
    [
        {"shape": [25], "strides": [1]},
        {"shape": [24], "strides": [1], "offset": 1},
        {"shape": [2, 2], "strides": [-1, 1]},
        {"shape": [-2], "strides": [1]},
        {"shape": [2], "strides": [1], "offset": -1},
        {"shape": [2**20, 2**20], "strides": [0, 0]},
        {"shape": [5], "strides": [2**60]},  # times 4 bytes: numpy's own check overflows and accepts it
        {"shape": [2, 3], "strides": [1]},
        {"shape": [0], "strides": [1]},
    ],
)
def test_a_tensor_outside_of_its_storage_is_refused(tmp_path, view):
    data = files.pickled({"w": files.tensor("0", total=24, **view)})
    state = state_dict.read(str(files.write_torch_zip(tmp_path / "f", TORCH_ARRAYS, data)))
    with pytest.raises(ValueError, match="tensor w does not lie within its storage"):
        state.array("w")


def test_a_storage_of_another_size_is_refused(write):
    for key in ("0", "90"):
        data = files.pickled({"w": files.tensor(key, [2], [1], 23)})
        with pytest.raises(ValueError, match=r"another size|lacks|belongs to no tensor"):
            state_dict.read(str(write(data, {"w": TORCH_ARRAYS["a.weight"]}))).array("w")


def test_a_file_cut_off_anywhere_is_refused(write):
    path = write()
    whole = path.read_bytes()
    for length in [*range(4, len(whole), 7), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"damaged|cut off|no list|holds no|one of torch\.save"):
            files.read_all(path)


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(["zip", "legacy"]))
def test_no_changed_byte_gives_more_than_a_value_error(tmp_path_factory, data, kind):
    path = tmp_path_factory.mktemp("changed") / "f"
    original = files.pickled({"w": files.tensor("0" if kind == "zip" else "90", [2, 3, 4], [12, 4, 1], 24)})
    place = data.draw(st.integers(0, len(original) - 1))
    changed = original[:place] + data.draw(st.binary(min_size=1, max_size=3)) + original[place + 1 :]
    TORCH_WRITERS[kind](path, {"w": TORCH_ARRAYS["a.weight"]}, changed)
    try:
        files.read_all(path)
    except ValueError as error:
        assert "\n" not in str(error)

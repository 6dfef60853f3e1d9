"""PyTorch's files: both forms are read, and nothing but tensors and containers gets through."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.weight_formats.torch import state_dict
from tests.builders import weight_files as files
from tests.builders.weight_files import floats, named, number, text

ARRAYS = {
    "a.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "a.bias": np.arange(2, dtype=np.float32),
    "steps": np.arange(1, dtype=np.float32).reshape(()),
}
WRITERS = {"zip": files.write_torch_zip, "legacy": files.write_torch_legacy}


@pytest.fixture(params=WRITERS)
def write(request, tmp_path):
    return lambda data=None, arrays=ARRAYS: WRITERS[request.param](tmp_path / "file", arrays, data)


def test_gives_back_what_was_saved(write):
    state = state_dict.read(str(write()))
    assert state.names() == sorted(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(state.array(name), array)


def test_a_state_dict_inside_a_dictionary_with_plain_values(tmp_path):
    inner = named("collections", "OrderedDict") + b")R(" + text("w") + files.tensor("0", [2], [1], 2) + b"u"
    data = b"\x80\x02}(" + text("epoch") + number(3) + text("state_dict") + inner + b"u."
    path = files.write_torch_zip(tmp_path / "f", {"w": floats([1, 2])}, data)
    assert state_dict.read(str(path)).array("w").tolist() == [1, 2]


def test_a_transposed_view_of_a_part_of_a_storage(tmp_path):
    data = files.pickled({"w": files.tensor("0", [3, 2], [1, 4], 24, offset=5)})
    path = files.write_torch_zip(tmp_path / "f", ARRAYS, data)
    expected = np.arange(24).reshape(6, 4)[1:3, 1:].T
    np.testing.assert_array_equal(state_dict.read(str(path)).array("w"), expected)


def test_a_view_of_a_storage_in_the_older_form(tmp_path):
    view = files.a_tuple([text("7"), number(4), number(6)])
    data = files.pickled({"w": files.tensor("90", [2], [1], 24, offset=1, view=[view])})
    path = files.write_torch_legacy(tmp_path / "f", {"w": ARRAYS["a.weight"]}, data)
    assert state_dict.read(str(path)).array("w").tolist() == [5, 6]


def test_a_parameter_is_the_tensor_in_it(tmp_path):
    inside = files.tensor("0", [2, 3, 4], [12, 4, 1], 24)
    parameter = named("torch._utils", "_rebuild_parameter") + files.a_tuple([inside, b"\x88", files.ORDERED_DICT])
    path = files.write_torch_zip(tmp_path / "f", ARRAYS, files.pickled({"w": parameter + b"R"}))
    np.testing.assert_array_equal(state_dict.read(str(path)).array("w"), ARRAYS["a.weight"])


def test_big_endian_numbers(tmp_path):
    path = tmp_path / "f"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", files.pickled({"w": files.tensor("0", [2], [1], 2)}))
        archive.writestr("x/byteorder", "big")
        archive.writestr("x/data/0", np.array([1, 2], ">f4").tobytes())
    assert state_dict.read(str(path)).array("w").tolist() == [1, 2]


@pytest.mark.parametrize("new", [True, False])
def test_what_pytorch_itself_writes(tmp_path, new):
    torch = pytest.importorskip("torch")
    base = torch.arange(24.0).reshape(2, 3, 4)
    saved = {"w": base, "t": base.permute(2, 0, 1), "h": base.half(), "p": torch.nn.Parameter(base[1])}
    torch.save(saved, tmp_path / "f", _use_new_zipfile_serialization=new)
    state = state_dict.read(str(tmp_path / "f"))
    for name, values in saved.items():
        np.testing.assert_array_equal(state.array(name), values.detach().numpy())


# --- nothing is run -------------------------------------------------------------------------------------------


def call(module: str, name: str, *arguments: bytes) -> bytes:
    return named(module, name) + files.a_tuple(arguments) + b"R"


def touching(path) -> dict[str, bytes]:
    """Return pickles that would make a file if any of them were run as pickle runs them."""
    command = text(f"touch {path}")
    python = text(f"open({str(path)!r}, 'w')")
    short = b"\x8c" + bytes([len("posix")]) + b"posix" + b"\x8c" + bytes([len("system")]) + b"system"
    item = text("w")
    return {
        "os.system": item + call("os", "system", command),
        "eval": item + call("builtins", "eval", python),
        "python 2's name of it": item + call("__builtin__", "eval", python),
        "stack global": item + short + b"\x93" + files.a_tuple([command]) + b"R",
        "inst": item + b"(" + command + b"ios\nsystem\n",
        "obj": item + b"(" + named("os", "system") + command + b"o",
        "newobj": item + named("subprocess", "Popen") + files.a_tuple([command]) + b"\x81",
        "a function of torch": item + call("torch.hub", "load", command),
        "torch.load inside": item + call("torch", "load", command),
        "dotted name": item + call("collections", "OrderedDict.fromkeys", command),
        "key of a dictionary": call("os", "system", command) + item,
        "persistent id": item + files.a_tuple([text("module"), call("os", "system", command)]) + b"Q",
        "extension": item + b"\x82\x01" + files.a_tuple([command]) + b"R",
        "storage type": item + files.a_tuple([text("storage"), call("os", "system", command)]) + b"Q",
    }


@pytest.mark.parametrize("kind", touching(""))
def test_a_malicious_pickle_is_refused_and_nothing_is_run(tmp_path, write, kind):
    made = tmp_path / "made"
    data = b"\x80\x04" + files.ORDERED_DICT + b"(" + touching(made)[kind] + b"u."
    with pytest.raises(ValueError, match=r"only tensors and containers|pickle is damaged") as caught:
        state_dict.read(str(write(data)))
    assert "\n" not in str(caught.value)
    assert not made.exists()


def test_the_error_names_what_was_asked_for(write):
    data = files.pickled({"w": call("os", "system", text("true"))})
    with pytest.raises(ValueError, match=r"it names os\.system; only tensors and containers are read"):
        state_dict.read(str(write(data)))


@pytest.mark.parametrize("target", [("torch._utils", "_rebuild_tensor_v2"), ("torch", "FloatStorage")])
def test_what_stands_for_pytorchs_functions_cannot_be_changed(write, target):
    state = b"N}" + text("__doc__") + text("changed") + b"s\x86"  # (None, {name: value}): pickle sets attributes
    with pytest.raises(ValueError, match="pickle is damaged"):
        state_dict.read(str(write(files.pickled({"w": named(*target) + state + b"b"}))))


def test_a_whole_pickled_module_is_refused(write):
    module = files.a_tuple([text("module"), files.ORDERED_DICT, b"N", b"N", b"N"]) + b"Q"
    with pytest.raises(ValueError, match=r"holds a 'module'.*only tensors"):
        state_dict.read(str(write(files.pickled({"w": module}))))


def test_a_memo_of_gigabytes_is_refused(write):
    data = b"\x80\x02}r" + (2**31).to_bytes(4, "little") + b"."
    with pytest.raises(ValueError, match="in the memo"):
        state_dict.read(str(write(data)))


# --- damaged files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "view",
    [
        {"shape": [25], "strides": [1]},
        {"shape": [24], "strides": [1], "offset": 1},
        {"shape": [2, 2], "strides": [-1, 1]},
        {"shape": [-2], "strides": [1]},
        {"shape": [2], "strides": [1], "offset": -1},
        {"shape": [2**20, 2**20], "strides": [0, 0]},
        {"shape": [2, 3], "strides": [1]},
        {"shape": [0], "strides": [1]},
    ],
)
def test_a_tensor_outside_of_its_storage_is_refused(tmp_path, view):
    data = files.pickled({"w": files.tensor("0", total=24, **view)})
    state = state_dict.read(str(files.write_torch_zip(tmp_path / "f", ARRAYS, data)))
    with pytest.raises(ValueError, match="tensor w does not lie within its storage"):
        state.array("w")


def test_a_view_beyond_its_storage_is_refused(tmp_path):
    view = files.a_tuple([text("7"), number(20), number(6)])
    data = files.pickled({"w": files.tensor("90", [2], [1], 24, view=[view])})
    path = files.write_torch_legacy(tmp_path / "f", {"w": ARRAYS["a.weight"]}, data)
    with pytest.raises(ValueError, match="cut off"):
        state_dict.read(str(path)).array("w")


def test_a_storage_of_another_size_is_refused(write):
    for key in ("0", "90"):
        data = files.pickled({"w": files.tensor(key, [2], [1], 23)})
        with pytest.raises(ValueError, match=r"another size|lacks|belongs to no tensor"):
            state_dict.read(str(write(data, {"w": ARRAYS["a.weight"]}))).array("w")


@pytest.mark.parametrize("value", [number(3), text("x"), b"N", b"]", b"}"])
def test_a_value_that_is_no_tensor_is_refused(write, value):
    with pytest.raises(ValueError, match="holds 'w', which is no tensor"):
        state_dict.read(str(write(files.pickled({"w": value}))))


@pytest.mark.parametrize("data", [b"\x80\x02N.", b"\x80\x02}.", b"\x80\x02]."])
def test_a_file_without_tensors_is_refused(write, data):
    with pytest.raises(ValueError, match="holds no dictionary of tensors"):
        state_dict.read(str(write(data)))


def test_a_dictionary_that_holds_itself_is_refused(write):
    data = b"\x80\x02}q\x00(" + text("w") + b"h\x00u."
    with pytest.raises(ValueError, match="holds 'w', which is no tensor"):
        state_dict.read(str(write(data)))


def read_all(path) -> None:
    state = state_dict.read(str(path))
    for name in state.names():
        state.array(name)


def test_a_file_cut_off_anywhere_is_refused(write):
    path = write()
    whole = path.read_bytes()
    for length in [*range(4, len(whole), 7), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"damaged|cut off|no list|holds no|one of torch\.save"):
            read_all(path)


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(["zip", "legacy"]))
def test_no_changed_byte_gives_more_than_a_value_error(tmp_path_factory, data, kind):
    path = tmp_path_factory.mktemp("changed") / "f"
    original = files.pickled({"w": files.tensor("0" if kind == "zip" else "90", [2, 3, 4], [12, 4, 1], 24)})
    place = data.draw(st.integers(0, len(original) - 1))
    changed = original[:place] + data.draw(st.binary(min_size=1, max_size=3)) + original[place + 1 :]
    WRITERS[kind](path, {"w": ARRAYS["a.weight"]}, changed)
    try:
        read_all(path)
    except ValueError as error:
        assert "\n" not in str(error)


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
    path = files.write_torch_zip(tmp_path / "f", ARRAYS)
    whole = bytearray(path.read_bytes())
    place = whole.index(ARRAYS["a.weight"].tobytes())
    whole[place] ^= 1
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"its zip archive is damaged: Bad CRC-32 for file 'archive/data/0'"):
        read_all(path)


def test_a_pickle_of_something_else_is_refused(tmp_path):
    (tmp_path / "f").write_bytes(b"\x80\x02K\x01." * 3)
    with pytest.raises(ValueError, match=r"not one of torch\.save"):
        state_dict.read(str(tmp_path / "f"))


def test_a_big_endian_machine_is_refused(tmp_path):
    path = files.write_torch_legacy(tmp_path / "f", ARRAYS)
    path.write_bytes(path.read_bytes().replace(b"little_endian\x88", b"little_endian\x89"))
    with pytest.raises(ValueError, match="little-endian"):
        state_dict.read(str(path))


def test_the_helpers_write_what_pickle_reads():
    data = b"\x80\x02" + files.a_tuple([number(300), number(-1), text("é")]) + b"."
    assert state_dict._unpickle(io.BytesIO(data))[0] == (300, -1, "é")

"""Unpickling: nothing but tensors and containers gets through, and nothing is run."""

import io

import pytest

from model.weight_formats.torch import state_dict, unpickling
from tests.builders import weight_files as files
from tests.builders.weight_files import named, number, text


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


def test_the_helpers_write_what_pickle_reads():
    data = b"\x80\x02" + files.a_tuple([number(300), number(-1), text("é")]) + b"."
    assert unpickling.unpickle(io.BytesIO(data))[0] == (300, -1, "é")

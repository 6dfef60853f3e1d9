"""Unpickling: nothing but tensors and containers gets through, and nothing is run."""

import io
import time

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
    with pytest.raises(ValueError, match="in place 2147483648 of its memo"):
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


TWICE = b"2\x86"  # DUP, TUPLE2
HEAVY = {
    "a key that is hashed without end": b")" + TWICE * 60 + b"Ns",
    "a key from the memo": b")" + b"".join(b"q%c2" % n + b"h%c\x86" % n for n in range(60)) + b"Ns",
    "a value that is printed without end": text("w") + b")" + TWICE * 60 + b"s",
    "a persistent id that is printed without end": text("w") + b")" + TWICE * 60 + b"Qs",
    "a storage's key that is printed without end": (
        text("w")
        + files.a_tuple([text("storage"), named("torch", "FloatStorage"), b")" + TWICE * 60, text("cpu"), number(1)])
        + b"Qs"
    ),
    "a tuple 100,000 levels deep": b")" + b"\x85" * 100_000 + b"Ns",
    "a shape of 100,000 sides": text("w") + files.tensor("0", [2] * 100_000, [1], 24) + b"s",
    "millions of objects": b"N0" * 2_000_000 + text("w") + b"Ns",
    "a number of megabytes": text("w") + b"\x8b" + (2**20).to_bytes(4, "little") + b"\x7f" * 2**20 + b"s",
    "dictionaries of the same long list": (
        b"]q\x01(" + b"NN\x86" * 10_000 + b"e0" + text("w")
        + (named("collections", "OrderedDict") + b"h\x01\x85R0") * 9_000 + b"Ns"
    ),
    "attributes set again and again": text("w") + files.ORDERED_DICT + b"}b" * 5000 + b"s",
}  # fmt: skip


@pytest.mark.parametrize("kind", HEAVY)
def test_what_no_network_has_is_refused_before_it_is_built(write, kind):
    data = b"\x80\x02" + files.ORDERED_DICT + HEAVY[kind] + b"."
    start = time.process_time()
    with pytest.raises(ValueError, match=r"save only the state_dict|no network's have|is no tensor") as caught:
        state_dict.read(str(write(data)))
    assert time.process_time() - start < 3
    assert str(caught.value).isprintable() and len(str(caught.value)) < 250


def test_an_ordered_dictionary_of_python_2_is_read(tmp_path):
    entries = b"](](" + text("w") + files.tensor("0", [2], [1], 24) + b"ee"
    data = b"\x80\x02" + named("collections", "OrderedDict") + entries + b"\x85R."
    path = files.write_torch_zip(tmp_path / "f", files.TORCH_ARRAYS, data)
    assert state_dict.read(str(path)).array("w").tolist() == [0, 1]


def test_the_helpers_write_what_pickle_reads():
    data = b"\x80\x02" + files.a_tuple([number(300), number(-1), text("é")]) + b"."
    assert unpickling.unpickle(io.BytesIO(data))[0] == (300, -1, "é")

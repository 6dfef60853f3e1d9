"""Reading foreign files in a child process: each format's arrays, damaged files, foreign classes, and the limits."""

import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest

from model.weight_formats import reader
from tests.builders import weight_files as files
from tests.builders.weight_files import TORCH_ARRAYS, TORCH_WRITERS, floats, named, number, text
from utility.errors import UserError
from utility.run.command import ROOT


def read(path):
    """Read a file of a state dict or of Caffe in this process, which is quicker."""
    is_caffe = reader.format_of(path.read_bytes()[:512]) == reader.CAFFE
    return dict((reader._caffe if is_caffe else reader._torch)(str(path)))


def refuse(path, message, **limits):
    """Check that the child's end, whatever it is, becomes one short line."""
    with pytest.raises(UserError, match=message) as caught:
        reader.arrays_in(str(path), reader.format_of(path.read_bytes()[:512]) or reader.CAFFE, **limits)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 450


# --- the child --------------------------------------------------------------------------------------------------

WHOLE = {
    reader.HDF5: lambda path: files.write_keras(path, files.vgg_weights(files.SMALL, 0)),
    reader.TORCH: lambda path: files.write_torch_zip(path, TORCH_ARRAYS),
    reader.CAFFE: lambda path: files.write_caffe(path, files.vgg_weights(files.SMALL, 0, full=False)),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_the_child_reads_what_the_file_has(tmp_path, kind):
    path = WHOLE[kind](tmp_path / "file")
    assert reader.format_of(path.read_bytes()[:512]) == kind
    arrays = reader.arrays_in(str(path), kind)
    if kind == reader.TORCH:
        assert list(arrays) == list(TORCH_ARRAYS)
        for name, array in TORCH_ARRAYS.items():
            np.testing.assert_array_equal(arrays[name], array)
    assert len(arrays) == len(TORCH_ARRAYS) if kind == reader.TORCH else 30
    assert not any(array.flags.writeable for array in arrays.values())


@pytest.mark.parametrize("kind", WHOLE)
def test_a_file_that_takes_more_memory_than_allowed_is_one_line(tmp_path, kind):
    path = WHOLE[kind](tmp_path / "file")
    whole = path.stat().st_size // 100
    refuse(path, rf"as {kind} it cannot be read: ", memory_bytes=whole)


def test_more_output_than_allowed_is_one_line(tmp_path):
    with h5py.File(tmp_path / "f", "w") as file:
        file.create_dataset("a", (1 << 26,), "f4", fillvalue=1, chunks=(1 << 16,))
        file.create_dataset("b", (1 << 26,), "f4", fillvalue=1, chunks=(1 << 16,))
    refuse(
        tmp_path / "f", r"it takes more than 400 MB of memory, as no network of its size does", memory_bytes=400_000_000
    )


def test_more_time_than_allowed_is_one_line(tmp_path):
    with h5py.File(tmp_path / "f", "w") as file:
        file.create_dataset("a", (1 << 18,), "f4", chunks=(1,))  # some seconds
    refuse(tmp_path / "f", "reading it takes more than 1 s", cpu_seconds=1)


def test_the_child_does_not_import_tensorflow():
    code = "import sys; from model.weight_formats import reader; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# --- HDF5 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [100, 5000, 20_000])
def test_an_hdf5_file_cut_off_is_one_line(tmp_path, length):
    path = WHOLE[reader.HDF5](tmp_path / "f")
    path.write_bytes(path.read_bytes()[:length])
    refuse(path, "as HDF5 it cannot be read: OSError.*; download or save it anew")


def test_numbers_kept_in_another_file_are_not_read(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(4 * 4))
    with h5py.File(tmp_path / "f", "w") as file:
        file.create_dataset("a/b", (4,), "f4", external=[(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)])
    refuse(tmp_path / "f", "a/b is kept in another file")


def test_groups_in_a_circle_links_elsewhere_and_texts_are_passed_over(tmp_path):
    with h5py.File(tmp_path / "f", "w") as file:
        file["layer/kernel:0"] = floats([1])
        file["layer/circle"] = file["layer"]
        file["layer/elsewhere"] = h5py.ExternalLink("other.h5", "/")
        file["layer/nowhere"] = h5py.SoftLink("/layer/nowhere")
        file["layer/text"] = "words"
        file["optimizer_weights/layer/kernel:0"] = floats([1])
    assert list(reader.arrays_in(str(tmp_path / "f"), reader.HDF5)) == ["layer/kernel:0"]


def test_compressed_numbers_are_read(tmp_path):
    with h5py.File(tmp_path / "f", "w") as file:
        file.create_dataset("layer/kernel:0", data=np.arange(24.0).reshape(2, 12), compression="gzip")
    found = reader.arrays_in(str(tmp_path / "f"), reader.HDF5)["layer/kernel:0"]
    assert found.tolist() == np.arange(24.0).reshape(2, 12).tolist()


# --- torch.save -------------------------------------------------------------------------------------------------


@pytest.fixture(params=TORCH_WRITERS)
def write(request, tmp_path):
    """Write a file in either form; `data` replaces the pickle of the tensors."""
    return lambda data=None, arrays=TORCH_ARRAYS: TORCH_WRITERS[request.param](tmp_path / "file", arrays, data)


def test_gives_back_what_was_saved(write):
    found = read(write())
    assert list(found) == list(TORCH_ARRAYS)
    for name, array in TORCH_ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)


def test_a_state_dict_inside_a_dictionary_with_plain_values(tmp_path):
    inner = named("collections", "OrderedDict") + b")R(" + text("w") + files.tensor("0", [2], [1], 2) + b"u"
    data = b"\x80\x02}(" + text("epoch") + number(3) + text("state_dict") + inner + b"u."
    path = files.write_torch_zip(tmp_path / "f", {"w": floats([1, 2])}, data)
    assert read(path)["w"].tolist() == [1, 2]


def test_a_transposed_view_of_a_part_of_a_storage(tmp_path):
    data = files.pickled({"w": files.tensor("0", [3, 2], [1, 4], 24, offset=5)})
    path = files.write_torch_zip(tmp_path / "f", TORCH_ARRAYS, data)
    expected = np.arange(24).reshape(6, 4)[1:3, 1:].T
    np.testing.assert_array_equal(read(path)["w"], expected)


def test_a_parameter_is_the_tensor_in_it(tmp_path):
    inside = files.tensor("0", [2, 3, 4], [12, 4, 1], 24)
    parameter = named("torch._utils", "_rebuild_parameter") + files.a_tuple([inside, b"\x88", files.ORDERED_DICT])
    path = files.write_torch_zip(tmp_path / "f", TORCH_ARRAYS, files.pickled({"w": parameter + b"R"}))
    np.testing.assert_array_equal(read(path)["w"], TORCH_ARRAYS["a.weight"])


def test_what_pytorch_itself_writes(tmp_path):
    torch = pytest.importorskip("torch")
    base = torch.arange(24.0).reshape(2, 3, 4)
    saved = {"w": base, "t": base.permute(2, 0, 1), "h": base.half(), "p": torch.nn.Parameter(base[1])}
    for new in (True, False):
        torch.save(saved, tmp_path / "f", _use_new_zipfile_serialization=new)
        for name, values in saved.items():
            np.testing.assert_array_equal(read(tmp_path / "f")[name], values.detach().numpy())


@pytest.mark.parametrize(
    "view",
    [
        {"shape": [25], "strides": [1]},
        {"shape": [24], "strides": [1], "offset": 1},
        {"shape": [2, 2], "strides": [-1, 1]},
        {"shape": [-2], "strides": [1]},
        {"shape": [2], "strides": [1], "offset": -1},
        {"shape": [5], "strides": [2**60]},
    ],
)
def test_a_tensor_outside_of_its_storage_is_refused(tmp_path, view):
    path = files.write_torch_zip(
        tmp_path / "f", TORCH_ARRAYS, files.pickled({"w": files.tensor("0", total=24, **view)})
    )
    with pytest.raises(UserError, match="does not lie within its storage of 24 numbers"):
        read(path)


def test_a_storage_of_another_size_is_refused(tmp_path):
    for name, key in (("zip", "0"), ("legacy", "90")):
        data = files.pickled({"w": files.tensor(key, [2], [1], 23)})
        path = TORCH_WRITERS[name](tmp_path / name, {"w": TORCH_ARRAYS["a.weight"]}, data)
        with pytest.raises(UserError, match=r"its tensors say 23|cut off in storage 90"):
            read(path)


def test_a_file_of_torch_save_cut_off_is_one_line(write):
    path = write()
    whole = path.read_bytes()
    for length in (40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        refuse(path, "as a file of torch.save it cannot be read")


def call(module: str, name: str, *arguments: bytes) -> bytes:
    return named(module, name) + files.a_tuple(arguments) + b"R"


FOREIGN = {
    "a class": call("collections", "Counter"),
    "a function": call("operator", "neg", number(1)),
    "a method of a known class": call("collections", "OrderedDict.fromkeys", text("a")),
    "stack global": text("datetime") + text("date") + b"\x93" + files.a_tuple(map(number, (2020, 1, 1))) + b"R",
    "another class of torch": call("torch", "BFloat16Storage"),
    "a whole module": files.a_tuple([text("module"), files.ORDERED_DICT, b"N", b"N", b"N"]) + b"Q",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_pickle_that_names_anything_but_tensors_is_refused(write, kind):
    path = write(files.pickled({"w": FOREIGN[kind]}))
    with pytest.raises(UserError, match=r"it (names|holds a) \S+, and only tensors are read: save the state_dict"):
        read(path)
    if kind == "a class":
        refuse(path, r"it names collections\.Counter, and only tensors are read")


@pytest.mark.parametrize("data", [b"\x80\x02N.", b"\x80\x02}.", b"\x80\x02].", files.pickled({"w": number(3)})])
def test_a_file_without_tensors_is_refused(write, data):
    with pytest.raises(UserError, match="holds no dictionary of tensors"):
        read(write(data, {}))


def test_a_big_endian_machine_is_refused(tmp_path):
    path = files.write_torch_legacy(tmp_path / "f", TORCH_ARRAYS)
    path.write_bytes(path.read_bytes().replace(b"little_endian\x88", b"little_endian\x89"))
    with pytest.raises(ValueError, match="little-endian"):
        read(path)


def test_big_endian_numbers(tmp_path):
    path = tmp_path / "f"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", files.pickled({"w": files.tensor("0", [2], [1], 2)}))
        archive.writestr("x/byteorder", "big")
        archive.writestr("x/data/0", np.array([1, 2], ">f4").tobytes())
    assert read(path)["w"].tolist() == [1, 2]


def test_a_zip_archive_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "f", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ValueError, match=r"no data\.pkl"):
        read(tmp_path / "f")


def test_a_changed_number_in_a_zip_archive_is_noticed(tmp_path):
    path = files.write_torch_zip(tmp_path / "f", TORCH_ARRAYS)
    whole = bytearray(path.read_bytes())
    whole[whole.index(TORCH_ARRAYS["a.weight"].tobytes())] ^= 1
    path.write_bytes(whole)
    refuse(path, "Bad CRC-32 for file 'archive/data/0'")


# --- Caffe ------------------------------------------------------------------------------------------------------

BLOBS: dict[str, list[np.ndarray]] = {
    "conv1_1": [np.arange(24.0).reshape(2, 3, 2, 2), np.arange(2.0)],
    "fc6": [np.arange(6.0).reshape(2, 3), np.arange(2.0)],
    "scale": [np.arange(5.0)],
}


@pytest.mark.parametrize("double", [False, True])
def test_reads_layers_with_a_shape(tmp_path, double):
    found = read(files.write_caffe(tmp_path / "f", BLOBS, double=double))
    assert list(found) == ["conv1_1/0", "conv1_1/1", "fc6/0", "fc6/1", "scale/0"]
    for name, array in found.items():
        layer, index = name.split("/")
        np.testing.assert_array_equal(array, BLOBS[layer][int(index)], strict=double)


def test_the_sides_of_1_before_old_blobs_are_taken_off(tmp_path):
    found = read(files.write_caffe(tmp_path / "f", BLOBS, old=True))
    assert {name: array.shape for name, array in found.items()} == {
        "conv1_1/0": (2, 3, 2, 2), "conv1_1/1": (2,), "fc6/0": (2, 3), "fc6/1": (2,), "scale/0": (5,),
    }  # fmt: skip
    assert found["fc6/1"].tolist() == [0, 1]


def test_fields_that_weights_do_not_need_are_skipped(tmp_path):
    numbers = files.blob(np.arange(3.0), old=False) + files.field(6, bytes(12))  # diff
    layer = files.field(1, b"a") + files.field(3, b"data") + files.field(7, numbers) + files.field(106, b"\x08\x40")
    (tmp_path / "f").write_bytes(files.field(1, b"net") + files.field(3, b"data") + files.field(100, layer))
    assert read(tmp_path / "f")["a/0"].tolist() == [0, 1, 2]


def test_packed_numbers_may_come_in_parts(tmp_path):
    numbers = files.field(7, files.field(1, b"\x03"))
    numbers += files.field(5, floats([1]).tobytes()) + files.field(5, floats([2, 3]).tobytes())
    (tmp_path / "f").write_bytes(files.field(100, files.field(1, b"a") + files.field(7, numbers)))
    assert read(tmp_path / "f")["a/0"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("shape", [[4], [2, 2], [2**31, 2**31]])
def test_numbers_that_do_not_fill_their_shape_are_refused(tmp_path, shape):
    numbers = files.field(7, files.field(1, b"".join(map(files.varint, shape)))) + files.field(5, bytes(12))
    (tmp_path / "f").write_bytes(files.field(100, files.field(1, b"a") + files.field(7, numbers)))
    with pytest.raises(ValueError, match=r"layer a has 12 bytes of numbers"):
        read(tmp_path / "f")


def test_a_negative_shape_is_refused(tmp_path):
    minus = files.varint(2**64 - 3)
    numbers = files.field(7, files.field(1, minus + minus)) + files.field(5, bytes(36))
    (tmp_path / "f").write_bytes(files.field(100, files.field(1, b"a") + files.field(7, numbers)))
    with pytest.raises(ValueError, match=r"\[-3, -3\]"):
        read(tmp_path / "f")


def test_a_caffemodel_cut_off_anywhere_is_refused_or_lacks_its_last_layers(tmp_path):
    path = files.write_caffe(tmp_path / "f", BLOBS)
    whole = path.read_bytes()
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        try:
            found = read(path)
        except UserError as error:
            assert "damaged or cut off" in str(error) or "no layer with weights" in str(error)
        else:
            assert all(np.array_equal(array, BLOBS[name[:-2]][int(name[-1])]) for name, array in found.items())
    refuse(path, "as a caffemodel it cannot be read: it is damaged or cut off; download")

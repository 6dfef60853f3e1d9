"""Checkpoint files: which one a path means, and whether it can be read.

Training, evaluation, demo and export all call `newest`, so that they take the same checkpoint. TensorFlow writes a
checkpoint's data under a temporary name, renames them, writes the index, and then lists the checkpoint in the file
`checkpoint`, its checkpoint state. A run that is killed in between leaves the older state; a power cut may leave any of
these files truncated.
"""

from __future__ import annotations

import glob
import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import tensorflow.compat.v1 as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.tensor_bundle_pb2 import BundleEntryProto

from utility.errors import UserError
from utility.files.text_files import one_line, shortened
from utility.run.log import first_line, log

# Tables of LevelDB (https://github.com/google/leveldb/blob/main/doc/table_format.md), which checkpoints are made of.

MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")  # the end of a table
_FOOTER = 48  # bytes: two handles, padding, and the magic number


def entries(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a table; its checksums are not compared.

    Raises:
        UserError: it is cut off, damaged or compressed.
    """
    if len(table) < _FOOTER or not table.endswith(MAGIC):
        raise UserError("is cut off, or none")
    try:
        position = len(table) - _FOOTER
        for _ in range(2):  # the offset and size of the block of metadata are not needed
            _, position = _varint(table, position)
        for _, handle in _entries(_block(table, table, position)):
            yield from _entries(_block(table, handle, 0))
    except IndexError as error:
        raise UserError("is damaged") from error


def _block(table: bytes, handle: bytes, position: int) -> bytes:
    """Return the block whose offset and size stand in `handle`, without its type and checksum."""
    offset, position = _varint(handle, position)
    size, _ = _varint(handle, position)
    if offset + size >= len(table) or table[offset + size] != 0:  # type 0: not compressed
        raise IndexError
    return table[offset : offset + size]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a block.

    A key leaves out what it shares with the one before it; those at which a search may start, whose positions end the
    block, leave out nothing.
    """
    count = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 - 4 * count
    if count == 0 or end < 0:
        raise IndexError
    starts = [int.from_bytes(block[place : place + 4], "little") for place in range(end, len(block) - 4, 4)]
    whole, position, key = {0}, 0, b""
    while position < end:
        start = position
        shared, position = _varint(block, position)
        added, position = _varint(block, position)
        size, position = _varint(block, position)
        if shared > len(key) or position + added + size > end:
            raise IndexError
        if not shared:
            whole.add(start)
        key = key[:shared] + block[position : position + added]
        position += added + size
        yield key, block[position - size : position]
    if starts[0] or not whole.issuperset(starts):
        raise IndexError


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Return an unsigned number of up to 64 bits, and the position after it."""
    value = 0
    for count in range(10):
        byte = data[position + count]
        value |= (byte & 127) << 7 * count
        if byte < 128:
            return value, position + count + 1
    raise IndexError


# The index of a V2 checkpoint, looked through before TensorFlow opens it.

_MOST_BYTES_INDEX_FILE = 1 << 25  # of an index; thousands of variables take less than one megabyte
_MOST_AXES, _MOST_NUMBERS = 254, 2**63 - 1  # of TensorFlow's tensors
_DTYPES = {
    dtype.as_datatype_enum
    for dtype in (
        *(tf.bfloat16, tf.float16, tf.float32, tf.float64, tf.complex64, tf.complex128, tf.bool, tf.string),
        *(tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16, tf.uint32, tf.uint64),
    )
}


def check(path: Path) -> None:
    """Raise a UserError if TensorFlow could not read an index: it is damaged, or has a variable in parts."""
    if path.stat().st_size > _MOST_BYTES_INDEX_FILE:
        raise UserError(f"its index has {path.stat().st_size} bytes, more than any network's")
    try:
        variables = [(name, BundleEntryProto.FromString(value)) for name, value in entries(path.read_bytes()) if name]
    except DecodeError as error:
        raise UserError("its index is damaged") from error
    except ValueError as error:
        raise UserError(f"its index {error}") from error
    for name, entry in variables:
        _check_variable(name, entry)


def _check_variable(name: bytes, entry: BundleEntryProto) -> None:
    """Raise a UserError if an entry has no type or shape that TensorFlow has."""
    text = shortened(name.decode(errors="replace"))
    if entry.slices or name.startswith(b"\0"):
        raise UserError(f"its index has {text} in parts, which is not read: save it without a partitioner")
    if entry.dtype not in _DTYPES:
        raise UserError(f"its index has {text} of a type that no variable has")
    if entry.shape.unknown_rank or not _is_shape([dim.size for dim in entry.shape.dim]):
        raise UserError(f"its index has {text} of a shape that no variable has")


def _is_shape(sides: Sequence[int]) -> bool:
    numbers = 1
    for side in sides:
        numbers *= side
        if side < 0 or numbers > _MOST_NUMBERS:
            return False
    return len(sides) <= _MOST_AXES


# The file `checkpoint` of a folder, in which TensorFlow lists the folder's checkpoints: its checkpoint state.

STATE_FILE = "checkpoint"
_MOST_BYTES = 1_000_000  # thousands of checkpoints
_MOST_LOGGED = 8
_LONGEST_PATH, _LONGEST_NAME = 4096, 255  # bytes that Linux allows


def listed(folder: Path) -> list[str]:
    """Return the paths in a folder's checkpoint state, the newest first; [] if it is missing or unreadable.

    Paths with control characters, and longer ones than a file can have, are left out, with a line in the log.

    Raises:
        UserError: a folder stands in its place.
    """
    path = folder / STATE_FILE
    if path.is_dir():
        raise UserError(f"{path} is a folder, and TensorFlow keeps its list of checkpoints there: rename that folder")
    if not path.is_file():
        return []
    if path.stat().st_size > _MOST_BYTES:
        log(f"{path} has {path.stat().st_size} bytes, too many for a list of checkpoints: it is not read")
        return []
    try:
        state = tf.train.get_checkpoint_state(str(folder))
    except (ValueError, tf.errors.OpError):  # empty, as a power cut may leave it, or in another encoding
        return []
    paths = [state.model_checkpoint_path, *reversed(state.all_model_checkpoint_paths)] if state else []
    left_out = [path for path in dict.fromkeys(paths) if _has_control_characters(path) or is_too_long(path)]
    for name in left_out[:_MOST_LOGGED]:
        log(f"{path} lists {shortened(name)}, which no checkpoint can be called: it is left out")
    return [name for name in paths if name not in left_out]


def _has_control_characters(path: str) -> bool:
    return any(unicodedata.category(letter) in ("Cc", "Cs") for letter in path)


def is_too_long(path: str) -> bool:
    """Tell whether no file can have this path, because the path or a name in it is too long."""
    sizes = [len(name.encode(errors="replace")) for name in path.split("/")]
    return max(sizes) > _LONGEST_NAME or sum(sizes) + len(sizes) > _LONGEST_PATH


IMPORTABLE = (".h5", ".hdf5", ".pth", ".pt", ".caffemodel")
IMPORT = "python model/import_weights.py --source="
STEP = "global_step"
SHOWN = 8  # names of files or variables in a message
_FILE = re.compile(r"\.(index|meta|data-[0-9]{5}-of-[0-9]{5})$")  # what follows the prefix in the names of its files
_LARGEST_RATIO = 8  # of a variable to a V1 file: an int64 takes a byte or more there
_LONGEST_REASON = 200  # characters of TensorFlow's message


def resolve(path: str) -> str:
    """Return the prefix of the checkpoint at `path`: a folder (its newest), a prefix, or one of its files.

    Raises:
        FileNotFoundError: there is no checkpoint; the message lists the files of the folder.
        UserError: a folder holds several and no checkpoint state, or a checkpoint cannot be read.
    """
    if is_too_long(path):
        raise FileNotFoundError(f"there is no checkpoint {shortened(path)}: no file can have a name as long as that")
    if Path(path).is_dir():
        found = newest(path)
        if found is None:
            raise FileNotFoundError(f"{path} has no checkpoint{what_is_there(path)}")
        return found
    prefix = prefix_of(path)
    if not is_checkpoint(prefix):
        raise FileNotFoundError(f"there is no checkpoint {path}{what_is_there(path)}")
    _check_readable({prefix: problem_of(prefix)})
    return prefix


def newest(folder: str) -> str | None:
    """Return the prefix of a folder's newest checkpoint that can be read, or None if the folder has none.

    The newest is the one in the checkpoint state; without a state the only one, or the one with the highest step. If it
    is damaged, the one before it is taken, with a line in the log.

    Raises:
        UserError: the newest cannot be determined, or no checkpoint can be read.
    """
    listed = listed_in_state(Path(folder))
    problems: dict[str, str | None] = {}
    for prefix in [*listed, *_not_listed(Path(folder), listed)]:
        problems[prefix] = problem_of(prefix)
        if problems[prefix] is None:
            damaged = list(problems.items())[:-1]
            for other, problem in damaged[:SHOWN]:
                log(one_line(f"checkpoint {other} {problem}: taking {prefix}, the one before it"))
            if len(damaged) > SHOWN:
                log(f"and {len(damaged) - SHOWN} more that {folder} lists")
            return prefix
    # a run that was killed while it wrote its first checkpoint, of step 0, starts again without an error
    if listed or any(step_in_name(prefix) != 0 for prefix in problems):
        _check_readable(problems)
    return None


def _check_readable(problems: dict[str, str | None]) -> None:
    """Raise a UserError if one of these checkpoints, given with their problems, has one."""
    lines = [f"checkpoint {prefix} {problem}" for prefix, problem in problems.items() if problem]
    if lines:
        more = "; no other can be read: remove them to start anew" if len(lines) > 1 else ""
        left_out = f"; and {len(lines) - SHOWN} others" if len(lines) > SHOWN else ""
        raise UserError(one_line(f"{'; '.join(lines[:SHOWN])}{left_out}{more}"))


def is_checkpoint(path: str) -> bool:
    """Tell whether `path` is the prefix or a file of a checkpoint, in TensorFlow's format V2 or V1."""
    prefix = Path(prefix_of(path))
    if Path(f"{prefix}.index").is_file():
        return True
    if not prefix.is_file() or prefix.stat().st_size < len(MAGIC):
        return False
    with prefix.open("rb") as file:  # a V1 checkpoint is one file without a suffix
        file.seek(-len(MAGIC), 2)
        return file.read() == MAGIC


def what_is_there(path: str) -> str:
    """Return the end of a message about a missing checkpoint: the names in its folder, or that there is no folder."""
    target = Path(path)
    if target.is_file():
        importable = target.suffix in IMPORTABLE
        return f": that file is not a checkpoint of TensorFlow{f'; convert it: {IMPORT}{path}' if importable else ''}"
    folder = target if target.is_dir() else target.parent
    if not folder.is_dir():
        return f": the folder {folder} does not exist"
    names = [entry.name for entry in folder.iterdir() if not entry.name.startswith((".", "__"))]
    names = [name for name in names if ".data-" not in name]  # the .index stands for the checkpoint
    names.sort(key=lambda name: (not name.endswith(".index"), name))
    shown = one_line(", ".join(names[:SHOWN])) + ", ..." * (len(names) > SHOWN)
    return f"; {folder} holds {shown}" if names else f"; {folder} is empty"


def prefix_of(path: str) -> str:
    """Return the prefix of the checkpoint to which a file belongs; other paths are returned unchanged."""
    return _FILE.sub("", path)


def listed_in_state(folder: Path) -> list[str]:
    """Return the prefixes in a folder's checkpoint state, the newest first; [] if it is missing or unreadable.

    The state of a copied folder may hold absolute paths of the original; a file of that name in this folder is
    preferred. A name may also be that of one of a checkpoint's files.

    Raises:
        UserError: a folder stands in the place of the state.
    """
    return list(dict.fromkeys(_preferably_in(folder, prefix_of(path)) for path in listed(folder)))


def _preferably_in(folder: Path, path: str) -> str:
    local = str(folder / Path(path).name)
    return path if not is_checkpoint(local) and is_checkpoint(path) else local


def _not_listed(folder: Path, listed: Sequence[str]) -> list[str]:
    """Return the folder's checkpoints that its state does not list, the highest step first."""
    prefixes = [str(index.with_suffix("")) for index in sorted(folder.glob("*.index"))]
    known = set(listed)
    others = [prefix for prefix in prefixes if prefix not in known]
    numbered = sorted((p for p in others if step_in_name(p) is not None), key=step_in_name, reverse=True)  # type: ignore[arg-type]
    stems = {prefix.rpartition("-")[0] for prefix in numbered}
    if not listed and len(others) > 1 and (len(numbered) < len(others) or len(stems) > 1):
        names = one_line(", ".join(others[:SHOWN]))
        raise UserError(
            f"{folder} holds {len(others)} checkpoints and no checkpoint state that names the newest; name one: {names}"
        )
    return numbered if len(others) > 1 else others


def step_in_name(prefix: str) -> int | None:
    """Return the step that ends a checkpoint's name, such as 500 of model.ckpt-500."""
    number = prefix.rpartition("-")[2]
    return int(number) if number.isdecimal() and len(number) < 20 else None


def problem_of(prefix: str) -> str | None:
    """Return what is wrong with a checkpoint's files, or None; all tensors are read, which verifies their checksums."""
    name = Path(prefix).name
    if not is_checkpoint(prefix):
        return f"is not there: {name}.index is missing"
    if not _has_data(prefix):
        return f"is not complete: {name}.data-* must lie beside its .index"
    try:
        reader = _opened(prefix)
        _check_sizes(prefix, reader)
        for variable in reader.get_variable_to_shape_map():
            reader.get_tensor(variable)
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError, KeyError, TypeError) as error:
        return f"cannot be read: {_brief(error)}"
    return None


def _check_sizes(prefix: str, reader: tf.train.NewCheckpointReader) -> None:
    """Raise a UserError if a variable would be larger than the files, before the memory for it is taken."""
    files = (
        [Path(prefix)]
        if Path(prefix).is_file()
        else Path(prefix).parent.glob(f"{glob.escape(Path(prefix).name)}.data-*")
    )
    stored = sum(path.stat().st_size for path in files)
    if Path(prefix).is_file():
        stored *= _LARGEST_RATIO
    dtypes = reader.get_variable_to_dtype_map()
    for name, shape in reader.get_variable_to_shape_map().items():
        size = math.prod(shape) * (1 if dtypes[name] == tf.string else dtypes[name].size)
        if size > stored:
            raise UserError(f"{shortened(name)} would have {size} bytes, and the data has {stored}")


def _brief(error: Exception) -> str:
    line = first_line(error)
    return one_line(line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]}...")


def _has_data(prefix: str) -> bool:
    """Tell whether all data files lie beside a V2 index: name.data-00000-of-00002 and so on."""
    if not Path(f"{prefix}.index").is_file():
        return True
    parts = [path.name for path in Path(prefix).parent.glob(f"{glob.escape(Path(prefix).name)}.data-*-of-*")]
    parts = [name for name in parts if name.rpartition("-of-")[2].isdecimal()]  # without temporary files
    return bool(parts) and len(parts) == int(parts[0].rpartition("-of-")[2])


def open_checkpoint(prefix: str) -> tf.train.NewCheckpointReader:
    """Return a reader of a checkpoint; a UserError if it is damaged."""
    try:
        return _opened(prefix)
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise UserError(one_line(f"checkpoint {prefix} cannot be read: {_brief(error)}")) from error


def _opened(prefix: str) -> tf.train.NewCheckpointReader:
    index = Path(f"{prefix}.index")
    if index.is_file():
        check(index)
    return tf.train.load_checkpoint(prefix)


def step_reader(folder: str, once: bool) -> Callable[[], int]:
    """Return a function that reads the step of a folder's newest checkpoint; `once`: at its first call only."""
    read = lambda: step_of(newest(folder))  # noqa: E731
    return cache(read) if once else read


def step_of(prefix: str | None) -> int:
    """Return the global step from which training goes on: 0 for None or a checkpoint without a step.

    Raises:
        UserError: the checkpoint is damaged, or its step is no scalar integer, as TensorFlow restores it.
    """
    if prefix is None:
        return 0
    reader = open_checkpoint(prefix)
    if not reader.has_tensor(STEP):
        return 0
    shape, dtype = reader.get_variable_to_shape_map()[STEP], reader.get_variable_to_dtype_map()[STEP]
    if shape or not dtype.is_integer:
        what = f"{STEP} is no whole number, but {dtype.name} of shape {shortened(shape)}"
        raise UserError(f"checkpoint {prefix}: {what}: training cannot go on from it")
    return int(reader.get_tensor(STEP))


def stored_step(reader: tf.train.NewCheckpointReader) -> int | None:
    """Return a checkpoint's global step, None if it has none that is one whole number, of whatever type and shape."""
    if not reader.has_tensor(STEP) or math.prod(reader.get_variable_to_shape_map()[STEP]) != 1:
        return None
    dtype = reader.get_variable_to_dtype_map()[STEP]
    if not (dtype.is_integer or dtype.is_floating):
        return None
    step = reader.get_tensor(STEP).item()
    return int(step) if float(step).is_integer() else None

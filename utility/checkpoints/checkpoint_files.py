"""Checkpoint files: which one a path means, whether it can be read, and clean-up and copies of them.

Training, evaluation, demo and export all take the checkpoint that `newest` returns. TensorFlow writes a checkpoint's
data under a temporary name, renames them, writes the index, and then lists the checkpoint in the file `checkpoint`, its
checkpoint state. A killed run leaves the older state; a power cut may leave any of these files truncated.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import tensorflow.compat.v1 as tf

from utility.config import config_file
from utility.config.settings import Config
from utility.errors import UserError
from utility.files.text_files import one_line, shortened, whole_file
from utility.run.log import first_line, log

STATE_FILE = "checkpoint"
IMPORTABLE = (".h5", ".hdf5", ".pth", ".pt", ".caffemodel")
IMPORT = "python model/import_weights.py --source="
STEP = "global_step"
_SHOWN = 8  # names of files or variables in a message
MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")  # with which a V1 checkpoint ends: one file without a suffix
_FILE = re.compile(r"\.(index|meta|data-[0-9]{5}-of-[0-9]{5})$")  # what follows the prefix in the names of its files

# temporary files, which are renamed once they are complete
_UNFINISHED = ("*.tempstate*", "*.meta.tmp*", f"{STATE_FILE}.tmp*", f".{config_file.CONFIG_FILE}.*.tmp")

# TensorFlow's readers are written in C++: part of their statuses become errors of Python
_UNREADABLE = (tf.errors.OpError, ValueError, RuntimeError, IndexError, KeyError, TypeError)


def resolve(path: str) -> str:
    """Return the prefix of the checkpoint at `path`: a folder (its newest), a prefix, or one of its files.

    Raises:
        FileNotFoundError: there is no checkpoint; the message lists the files of the folder.
        UserError: a folder holds several and no checkpoint state, or a checkpoint cannot be read.
    """
    if Path(path).is_dir():
        if found := newest(path):
            return found
        raise FileNotFoundError(f"{path} has no checkpoint{what_is_there(path)}")
    prefix = prefix_of(path)
    if not is_checkpoint(prefix):
        raise FileNotFoundError(f"there is no checkpoint {path}{what_is_there(path)}")
    open_checkpoint(prefix, whole=True)
    return prefix


def newest(folder: str) -> str | None:
    """Return the prefix of a folder's newest checkpoint that can be read, or None if the folder has none.

    The newest is the one in the checkpoint state; without a state the only one, or the one with the highest step. If it
    is damaged, the one before it is taken, with a line in the log. A UserError if none can be determined or read.
    """
    listed = listed_in_state(Path(folder))
    problems: dict[str, str] = {}
    for prefix in [*listed, *_not_listed(Path(folder), listed)]:
        try:
            open_checkpoint(prefix, whole=True)
        except UserError as error:
            problems[prefix] = str(error)
            continue
        if problems:
            log(f"{some_of([*problems.values()], '; ')}: taking {prefix}, the one before it")
        return prefix
    # a run that was killed while it wrote its first checkpoint, of step 0, starts again without an error
    if listed or any(step_in_name(prefix) != 0 for prefix in problems):
        raise UserError(f"{some_of([*problems.values()], '; ')}; no other can be read: remove them to start anew")
    return None


def some_of(names: Sequence[str], separator: str = ", ") -> str:
    """Return the first eight of some names or texts, and dots if there are more, as one line."""
    return one_line(separator.join(names[:_SHOWN])) + f"{separator}..." * (len(names) > _SHOWN)


def is_checkpoint(path: str) -> bool:
    """Tell whether `path` is the prefix or a file of a checkpoint, in TensorFlow's format V2 or V1."""
    prefix = Path(prefix_of(path))
    if Path(f"{prefix}.index").is_file():
        return True
    if not prefix.is_file() or prefix.stat().st_size < len(MAGIC):
        return False
    with prefix.open("rb") as file:
        file.seek(-len(MAGIC), 2)
        return file.read() == MAGIC


def what_is_there(path: str) -> str:
    """Return the end of a message about a missing checkpoint: the names in its folder, or that there is no folder."""
    target = Path(path)
    if target.is_file():
        convert = f"; convert it: {IMPORT}{path}" if target.suffix in IMPORTABLE else ""
        return f": that file is not a checkpoint of TensorFlow{convert}"
    folder = target if target.is_dir() else target.parent
    if not folder.is_dir():
        return f": the folder {folder} does not exist"
    names = [entry.name for entry in folder.iterdir() if not entry.name.startswith((".", "__"))]
    names = [name for name in names if ".data-" not in name]  # the .index stands for the checkpoint
    names.sort(key=lambda name: (not name.endswith(".index"), name))
    return f"; {folder} holds {some_of(names)}" if names else f"; {folder} is empty"


def prefix_of(path: str) -> str:
    """Return the prefix of the checkpoint to which a file belongs; other paths are returned unchanged."""
    return _FILE.sub("", path)


def listed_in_state(folder: Path) -> list[str]:
    """Return the prefixes in a folder's checkpoint state, the newest first; [] if it is missing or unreadable.

    The state of a copied folder may hold absolute paths of the original; a file of that name in this folder is
    preferred. A name may also be that of one of a checkpoint's files.
    """
    try:
        state = tf.train.get_checkpoint_state(str(folder))
    except (ValueError, tf.errors.OpError):  # empty, as a power cut may leave it, or in another encoding
        state = None
    paths = [state.model_checkpoint_path, *reversed(state.all_model_checkpoint_paths)] if state else []
    prefixes = []
    for prefix in map(prefix_of, paths):
        local = str(folder / Path(prefix).name)
        prefixes.append(prefix if not is_checkpoint(local) and is_checkpoint(prefix) else local)
    return list(dict.fromkeys(prefixes))


def _not_listed(folder: Path, listed: Sequence[str]) -> list[str]:
    """Return the folder's checkpoints that its state does not list, the highest step first."""
    prefixes = [str(index.with_suffix("")) for index in sorted(folder.glob("*.index"))]
    others = [prefix for prefix in prefixes if prefix not in listed]
    steps = {prefix: step for prefix in others if (step := step_in_name(prefix)) is not None}
    stems = {prefix.rpartition("-")[0] for prefix in steps}
    if not listed and len(others) > 1 and (len(steps) < len(others) or len(stems) > 1):
        what = f"{len(others)} checkpoints and no checkpoint state that names the newest"
        raise UserError(f"{folder} holds {what}; name one: {some_of(others)}")
    return sorted(steps, key=lambda prefix: steps[prefix], reverse=True) if len(others) > 1 else others


def step_in_name(prefix: str) -> int | None:
    """Return the step that ends a checkpoint's name, such as 500 of model.ckpt-500."""
    number = prefix.rpartition("-")[2]
    return int(number) if number.isdecimal() else None


def open_checkpoint(prefix: str, whole: bool = False) -> tf.train.NewCheckpointReader:
    """Return a reader of a checkpoint; a UserError if it is damaged. `whole`: all tensors are read and verified."""
    if not is_checkpoint(prefix):
        raise UserError(f"checkpoint {prefix} is not there: {Path(prefix).name}.index is missing")
    try:
        reader = tf.train.load_checkpoint(prefix)
        for variable in reader.get_variable_to_shape_map() if whole else ():
            reader.get_tensor(variable)
    except _UNREADABLE as error:
        raise UserError(one_line(f"checkpoint {prefix} cannot be read: {first_line(error)[:200]}")) from error
    return reader


def step_reader(folder: str, once: bool) -> Callable[[], int]:
    """Return a function that reads the step of a folder's newest checkpoint; `once`: at its first call only."""
    return cache(lambda: step_of(newest(folder))) if once else lambda: step_of(newest(folder))


def step_of(prefix: str | None) -> int:
    """Return the global step from which training resumes: 0 for None or a checkpoint without a step.

    A UserError if the step is no scalar integer, which training cannot restore.
    """
    reader = open_checkpoint(prefix) if prefix else None
    if not reader or not reader.has_tensor(STEP):
        return 0
    shape, dtype = reader.get_variable_to_shape_map()[STEP], reader.get_variable_to_dtype_map()[STEP]
    if shape or not dtype.is_integer:
        step = f"{dtype.name} of shape {shortened(shape)}"
        raise UserError(f"checkpoint {prefix}: {STEP} is no whole number, but {step}: training cannot resume from it")
    return int(reader.get_tensor(STEP))


def open_for_training(model_dir: str, config: Config, writes: bool) -> None:
    """Clean a model directory up if this process `writes` it, and log the settings that differ from its checkpoint's.

    A UserError if it holds another model, or cannot be read or written to.
    """
    if prepare(model_dir) if writes else newest(model_dir):
        for change in config_file.check_same_model(config, model_dir):
            log(f"other than before: {change}")


def prepare(model_dir: str) -> str | None:
    """Clean up a model directory, and return its newest readable checkpoint, which the Estimator then restores.

    Incomplete files of a killed run are removed, and so are damaged checkpoints from the checkpoint state. A UserError
    as from `newest`, or if the directory cannot be written to.
    """
    folder = Path(model_dir)
    found = newest(model_dir) if folder.is_dir() else None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(100_000))  # that must be free on the disk
    except OSError as error:
        problem = f"cannot be written to: {error.strerror}; make room there, or choose another"
        raise UserError(f"--model_dir={folder}: {problem}") from error
    for pattern in _UNFINISHED:
        for path in folder.glob(pattern):
            path.unlink()
    for path in folder.glob("tmp_worker_*"):  # checkpoints that workers other than the chief save, and nothing reads
        shutil.rmtree(path, ignore_errors=True)
    if found is None:
        (folder / STATE_FILE).unlink(missing_ok=True)  # TensorFlow fails on an empty one
    else:
        listed = listed_in_state(folder)
        kept = listed[listed.index(found) :] if found in listed else [found]
        _write_state(folder, [prefix for prefix in reversed(kept) if is_checkpoint(prefix)])
    return found


def _write_state(folder: Path, prefixes: Sequence[str]) -> None:
    """Write the checkpoint state: prefixes with the newest last, by name alone if they are in the folder itself."""
    names = [Path(prefix).name if Path(prefix).parent == folder else prefix for prefix in prefixes]
    tf.train.update_checkpoint_state(str(folder.absolute()), names[-1], names)


def copy(prefix: str, target: str) -> None:
    """Make a checkpoint the only one of the folder `target`; if interrupted, the folder keeps the one it had."""
    folder, name = Path(target), Path(prefix).name
    folder.mkdir(parents=True, exist_ok=True)
    files = [path for path in Path(prefix).parent.glob(f"{name}.*") if prefix_of(path.name) == name]
    if not files:
        raise FileNotFoundError(f"there is no checkpoint {prefix} any more")
    for file in files:
        with whole_file(folder / file.name) as unfinished:
            shutil.copyfile(file, unfinished)
    _write_state(folder, [str(folder / name)])
    for old in folder.glob("*.index"):
        if old.stem != name:
            for file in folder.glob(f"{old.stem}.*"):
                file.unlink()

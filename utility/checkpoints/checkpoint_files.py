"""Checkpoint files: which one a path means, and whether it can be read.

Training, evaluation, demo and export all call `newest`, so that they take the same checkpoint. TensorFlow writes a
checkpoint's data under a temporary name, renames them, writes the index, and then lists the checkpoint in the file
`checkpoint`, its checkpoint state. A run that is killed in between leaves the older state; a power cut may leave any of
these files truncated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import tensorflow.compat.v1 as tf

from utility.run.log import first_line, log

IMPORTABLE = (".h5", ".hdf5", ".pth", ".pt", ".caffemodel")
IMPORT = "python model/import_weights.py --source="
SHOWN = 8  # names of files or variables in a message
STATE_FILE = "checkpoint"  # TensorFlow's list of a folder's checkpoints
_TABLE_MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")  # the end of a LevelDB table: a V1 file, or a V2 index


def resolve(path: str) -> str:
    """Return the prefix of the checkpoint at `path`: a folder (its newest), a prefix, or one of its files.

    Raises:
        FileNotFoundError: there is no checkpoint; the message lists the files of the folder.
        ValueError: a folder holds several and no checkpoint state, or a checkpoint cannot be read.
    """
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
        ValueError: the newest cannot be determined, or no checkpoint can be read.
    """
    listed = listed_in_state(Path(folder))
    problems: dict[str, str | None] = {}
    for prefix in [*listed, *_not_listed(Path(folder), listed)]:
        problems[prefix] = problem_of(prefix)
        if problems[prefix] is None:
            for damaged, problem in list(problems.items())[:-1]:
                log(f"checkpoint {damaged} {problem}: taking {prefix}, the one before it")
            return prefix
    # a run that was killed while it wrote its first checkpoint, of step 0, starts again without an error
    if listed or any(step_in_name(prefix) != 0 for prefix in problems):
        _check_readable(problems)
    return None


def _check_readable(problems: dict[str, str | None]) -> None:
    """Raise a ValueError if one of these checkpoints, given with their problems, has one."""
    lines = [f"checkpoint {prefix} {problem}" for prefix, problem in problems.items() if problem]
    if lines:
        more = "; no other can be read: remove them to start anew" if len(lines) > 1 else ""
        raise ValueError(f"{'; '.join(lines[:SHOWN])}{more}")


def is_checkpoint(path: str) -> bool:
    """Tell whether `path` is the prefix or a file of a checkpoint, in TensorFlow's format V2 or V1."""
    prefix = Path(prefix_of(path))
    if Path(f"{prefix}.index").is_file():
        return True
    if not prefix.is_file() or prefix.stat().st_size < len(_TABLE_MAGIC):
        return False
    with prefix.open("rb") as file:  # a V1 checkpoint is one file without a suffix
        file.seek(-len(_TABLE_MAGIC), 2)
        return file.read() == _TABLE_MAGIC


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
    shown = ", ".join(names[:SHOWN]) + ", ..." * (len(names) > SHOWN)
    return f"; {folder} holds {shown}" if names else f"; {folder} is empty"


def prefix_of(path: str) -> str:
    """Return the prefix of the checkpoint to which a file belongs; other paths are returned unchanged."""
    return path.removesuffix(".index").removesuffix(".meta").split(".data-")[0]


def listed_in_state(folder: Path) -> list[str]:
    """Return the prefixes in a folder's checkpoint state, the newest first; [] if it is missing or unreadable.

    The state of a copied folder may hold absolute paths of the original; a file of that name in this folder is
    preferred.
    """
    try:
        state = tf.train.get_checkpoint_state(str(folder))
    except (ValueError, UnicodeDecodeError):  # empty, as a power cut may leave it
        return []
    paths = [state.model_checkpoint_path, *reversed(state.all_model_checkpoint_paths)] if state else []
    return list(dict.fromkeys(_preferably_in(folder, path) for path in paths))


def _preferably_in(folder: Path, path: str) -> str:
    local = str(folder / Path(path).name)
    return path if not is_checkpoint(local) and is_checkpoint(path) else local


def _not_listed(folder: Path, listed: Sequence[str]) -> list[str]:
    """Return the folder's checkpoints that its state does not list, the highest step first."""
    prefixes = [str(index.with_suffix("")) for index in sorted(folder.glob("*.index"))]
    others = [prefix for prefix in prefixes if prefix not in listed]
    numbered = sorted((p for p in others if step_in_name(p) is not None), key=step_in_name, reverse=True)  # type: ignore[arg-type]
    stems = {prefix.rpartition("-")[0] for prefix in numbered}
    if not listed and len(others) > 1 and (len(numbered) < len(others) or len(stems) > 1):
        names = ", ".join(others[:SHOWN])
        raise ValueError(
            f"{folder} holds {len(others)} checkpoints and no checkpoint state that names the newest; name one: {names}"
        )
    return numbered if len(others) > 1 else others


def step_in_name(prefix: str) -> int | None:
    """Return the step that ends a checkpoint's name, such as 500 of model.ckpt-500."""
    number = prefix.rpartition("-")[2]
    return int(number) if number.isdecimal() else None


def problem_of(prefix: str) -> str | None:
    """Return what is wrong with a checkpoint's files, or None; all tensors are read, which verifies their checksums."""
    name = Path(prefix).name
    if not is_checkpoint(prefix):
        return f"is not there: {name}.index is missing"
    if not _has_data(prefix):
        return f"is not complete: {name}.data-* must lie beside its .index"
    try:
        reader = open_checkpoint(prefix)
        for variable in reader.get_variable_to_shape_map():
            reader.get_tensor(variable)
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError) as error:
        return f"cannot be read: {first_line(error)}"
    return None


def _has_data(prefix: str) -> bool:
    """Tell whether all data files lie beside a V2 index: name.data-00000-of-00002 and so on."""
    if not Path(f"{prefix}.index").is_file():
        return True
    parts = [path.name for path in Path(prefix).parent.glob(f"{Path(prefix).name}.data-*-of-*")]
    parts = [name for name in parts if name.rpartition("-of-")[2].isdecimal()]  # without temporary files
    return bool(parts) and len(parts) == int(parts[0].rpartition("-of-")[2])


def open_checkpoint(prefix: str) -> tf.train.NewCheckpointReader:
    """Return a reader of a checkpoint; a ValueError if it is damaged."""
    try:
        return tf.train.load_checkpoint(prefix)
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise ValueError(f"checkpoint {prefix} cannot be read: {first_line(error)}") from error


def step_reader(folder: str, once: bool) -> Callable[[], int]:
    """Return a function that reads the step of a folder's newest checkpoint; `once`: at its first call only."""
    read = lambda: step_of(newest(folder))  # noqa: E731
    return cache(read) if once else read


def step_of(prefix: str | None) -> int:
    """Return the global step of a checkpoint, 0 for None or one without a step."""
    if prefix is None:
        return 0
    reader = open_checkpoint(prefix)
    return int(reader.get_tensor("global_step")) if reader.has_tensor("global_step") else 0

"""What is written to a model directory beside TensorFlow's own files: clean-up before a run, and copies."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import tensorflow.compat.v1 as tf

from utility.checkpoints.checkpoint_files import STATE_FILE, is_checkpoint, newest, prefix_of, recorded
from utility.config import config_file
from utility.config.settings import Config
from utility.run.log import log

_ROOM = 100_000  # bytes that a disk must have left
_UNFINISHED = ("*.tempstate*", "*.meta.tmp*", f"{STATE_FILE}.tmp*")  # what TensorFlow renames when it is whole
_COPIES = "tmp_worker_*"  # folders with what the other workers of a cluster must save, and nobody needs


def open_for_training(model_dir: str, config: Config, writes: bool) -> None:
    """Compare the model in a directory that a training goes on from with the config, and log the settings that changed.

    The process that `writes` checkpoints first makes the directory ready: see `prepare`.

    Raises:
        ValueError: the directory holds another model, or cannot be read or written to.
    """
    if prepare(model_dir) if writes else newest(model_dir):
        for change in config_file.check_same_model(config, model_dir):
            log(f"other than before: {change}")


def prepare(model_dir: str) -> str | None:
    """Make a model directory ready to go on: returns its newest readable checkpoint, which the Estimator then takes.

    What a killed run left half-written is removed, and the file `checkpoint` notes no broken checkpoint any more.

    Raises:
        ValueError: as `newest`, or the directory cannot be written to.
    """
    folder = Path(model_dir)
    found = newest(model_dir) if folder.is_dir() else None
    _check_writable(folder)
    for pattern in _UNFINISHED:
        for path in folder.glob(pattern):
            path.unlink()
    for path in folder.glob(_COPIES):
        shutil.rmtree(path, ignore_errors=True)
    recorded_paths = recorded(folder)
    if found is None:
        (folder / STATE_FILE).unlink(missing_ok=True)  # TensorFlow fails at an empty one
    else:
        kept = recorded_paths[recorded_paths.index(found) :] if found in recorded_paths else [found]
        _record(folder, [prefix for prefix in reversed(kept) if is_checkpoint(prefix)])
    return found


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_ROOM))
    except OSError as error:
        raise ValueError(
            f"--model_dir={folder}: cannot be written to: {error.strerror}; make room there, or choose another"
        ) from error


def _record(folder: Path, prefixes: Sequence[str]) -> None:
    """Note the checkpoints of a folder, the newest last, by their names where they lie in it."""
    names = [Path(prefix).name if Path(prefix).parent == folder else prefix for prefix in prefixes]
    tf.train.update_checkpoint_state(str(folder.absolute()), names[-1], names)


def copy(prefix: str, target: str) -> None:
    """Make a checkpoint the only one of the folder `target`; killed meanwhile, the folder keeps the one it had."""
    folder, name = Path(target), Path(prefix).name
    folder.mkdir(parents=True, exist_ok=True)
    files = [path for path in Path(prefix).parent.glob(f"{name}.*") if prefix_of(path.name) == name]
    if not files:
        raise FileNotFoundError(f"there is no checkpoint {prefix} any more")
    for file in files:
        partial = folder / f".{file.name}.partial"
        shutil.copyfile(file, partial)
        partial.replace(folder / file.name)
    _record(folder, [str(folder / name)])
    for old in folder.glob("*.index"):
        if old.stem != name:
            for file in folder.glob(f"{old.stem}.*"):
                file.unlink()

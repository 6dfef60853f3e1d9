"""Changes to a model directory other than TensorFlow's own: clean-up before a run, and copies of checkpoints."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import tensorflow.compat.v1 as tf

from utility.checkpoints.checkpoint_files import STATE_FILE, is_checkpoint, listed_in_state, newest, prefix_of
from utility.config import config_file
from utility.config.settings import Config
from utility.errors import UserError
from utility.files.text_files import whole_file
from utility.run.log import log

# temporary files, which are renamed once they are complete
_UNFINISHED = ("*.tempstate*", "*.meta.tmp*", f"{STATE_FILE}.tmp*", f".{config_file.CONFIG_FILE}.*.tmp")


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

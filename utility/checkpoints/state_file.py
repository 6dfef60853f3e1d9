"""The file `checkpoint` of a folder, in which TensorFlow lists the folder's checkpoints: its checkpoint state."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import tensorflow.compat.v1 as tf

from utility.files.text_files import shortened
from utility.run.log import log

STATE_FILE = "checkpoint"
_MOST_BYTES = 1_000_000  # thousands of checkpoints
_MOST_LOGGED = 8
_LONGEST_PATH, _LONGEST_NAME = 4096, 255  # bytes that Linux allows


def listed(folder: Path) -> list[str]:
    """Return the paths in a folder's checkpoint state, the newest first; [] if it is missing or unreadable.

    Paths with control characters, and longer ones than a file can have, are left out, with a line in the log.

    Raises:
        ValueError: a folder stands in its place.
    """
    path = folder / STATE_FILE
    if path.is_dir():
        raise ValueError(f"{path} is a folder, and TensorFlow keeps its list of checkpoints there: rename that folder")
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

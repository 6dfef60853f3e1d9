"""A staging folder: shards get their final names only when the whole data set is written."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from dataset.records import record_files, tfrecord
from utility.config.settings import LABELS_FILE
from utility.run.folder_lock import locked

_STAGING_NAME = ".converting"


@contextlib.contextmanager
def staging_folder(output_directory: Path) -> Iterator[Path]:
    """Create an empty folder inside `output_directory`, and remove it on exit, also after an error.

    It is on the same file system, so that each file moves to its final name in one step. A folder that a killed run
    has left is emptied.

    Raises:
        ValueError: another program is writing to `output_directory`.
    """
    folder = output_directory / _STAGING_NAME
    with locked(output_directory, "--output_directory"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def write_shards(paths: Sequence[Path], planned: Sequence[int], serialized: Iterator[Sequence[bytes]]) -> None:
    """Write the records of the next `planned[i]` pictures to the shard `paths[i]`; a skipped picture has none."""
    for path, count in zip(paths, planned, strict=True):
        with path.open("wb") as shard:
            for records in islice(serialized, count):
                shard.writelines(map(tfrecord.frame, records))


def balanced(total: int, parts: int) -> list[int]:
    """Split a total into parts that differ by one at most, the larger ones first."""
    return [total // parts + (part < total % parts) for part in range(parts)]


def publish(staging: Path, output_directory: Path) -> None:
    """Move a finished data set from the staging folder to `output_directory`, replacing an older one.

    `dataset.json` marks a finished data set: the old one is removed first, the new one moved last. An interruption
    leaves an incomplete set of shards, or a complete one with its own labels.
    """
    (output_directory / record_files.INFO_NAME).unlink(missing_ok=True)
    for old in record_files.all_shards(output_directory):
        old.unlink()
    shards = [path.name for path in record_files.all_shards(staging)]
    for name in (LABELS_FILE, *shards, record_files.INFO_NAME):
        (staging / name).replace(output_directory / name)

"""Writes a data set's annotations and pictures as TFRecord shards, with labels.txt and dataset.json."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from dataset.conversion import examples
from dataset.conversion.examples import Example, Tally, make_examples
from dataset.records import record_files, schema
from dataset.sources import labels
from dataset.sources.annotations import TRAIN, VALIDATION, DataSet, Source, Split
from dataset.sources.pictures import PictureError
from utility.config.settings import LABELS_FILE, ViewConfig
from utility.errors import UserError
from utility.files import text_files
from utility.run.folder_lock import locked
from utility.run.log import log

# A staging folder: shards get their final names only when the whole data set is written.

_STAGING_NAME = ".converting"


@contextlib.contextmanager
def staging_folder(output_directory: Path) -> Iterator[Path]:
    """Create an empty folder inside `output_directory`, and remove it on exit, also after an error.

    It is on the same file system, so that each file moves to its final name in one step. A folder that a killed run
    has left is emptied.

    Raises:
        UserError: another program is writing to `output_directory`.
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
                shard.writelines(map(schema.frame, records))


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


SHARDS: Mapping[str, int] = {TRAIN: 16, VALIDATION: 16}
_SHUFFLE_SEED = 20180503
_AHEAD_PER_THREAD = 4  # images read ahead of the writer
_MAX_NUMBER = 99999  # a shard's name has five digits
_SKIP_HINT = "--skip_bad_images leaves such images out"

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def check_numbers(**numbers: int) -> None:
    """Raise a UserError for the first of these flags that is not from 1 to 99999."""
    for name, value in numbers.items():
        if not 1 <= value <= _MAX_NUMBER:
            raise UserError(f"--{name}={value} must be from 1 to {_MAX_NUMBER}")


def convert(
    data: DataSet,
    output_directory: str | Path,
    *,
    shards: Mapping[str, int] = SHARDS,
    num_threads: int = 8,
    strict: bool = False,
    skip_bad_images: bool = False,
    views: ViewConfig | None = None,
) -> dict[str, Any]:
    """Write `train-*` and `val-*` shards, `labels.txt` and `dataset.json`; return the contents of the last one.

    The same input gives the same bytes, whatever `num_threads`. `views` (None: pictures as they are) is kept in
    `dataset.json`; tiles are cut from training pictures, while validation pictures stay whole, because evaluation cuts
    their tiles itself. `Converter.write_split` describes the entry of a split.

    Raises:
        OSError: a file is missing or cannot be written.
        UserError: a bad argument or image, or another program is writing to `output_directory`; with `strict` also a
            box that would be clipped or dropped, a wrong image size in an annotation, or a remark on the data set.
            `output_directory` is left unchanged.
    """
    check_numbers(train_shards=shards[TRAIN], validation_shards=shards[VALIDATION], num_threads=num_threads)
    _check_and_log_plan(data, shards, strict)
    class_ids = {name: class_id for class_id, name in enumerate(data.class_names, start=1)}
    output, views = Path(output_directory), views or ViewConfig()
    info = {"class_names": list(data.class_names), **data.origin, "views": asdict(views)}
    info |= {"remarks": [*data.remarks, *data.notes]} if data.remarks or data.notes else {}
    with staging_folder(output) as folder:
        labels.write_labels(folder / LABELS_FILE, data.class_names)
        converter = Converter(folder, class_ids, num_threads, strict, skip_bad_images, views)
        info["splits"] = {prefix: converter.write_split(prefix, split, shards) for prefix, split in data.splits.items()}
        text_files.write_whole(folder / record_files.INFO_NAME, json.dumps(info, indent=1, ensure_ascii=False) + "\n")
        publish(folder, output)
    log(f"wrote {output}")
    return info


@dataclass(frozen=True)
class Converter:
    """The settings that all splits of a data set share."""

    staging: Path
    class_ids: dict[str, int]
    num_threads: int
    strict: bool
    skip_bad_images: bool
    views: ViewConfig

    def write_split(self, prefix: str, split: Split, requested_shards: Mapping[str, int]) -> dict[str, Any]:
        """Write the shards of a split to the staging folder, log its summary, and return it.

        The summary holds the split's `origin`; numbers of `shards`, `images` and `images_without_objects`; numbers of
        images in each shard, `images_by_shard`: all, those with objects, and those with objects that are not difficult;
        numbers of `objects` by class, and of the `difficult` ones among them; numbers of boxes `dropped`, by reason,
        and boxes `clipped`; the number of wrong image sizes in annotations, `size_differs`; numbers of `pictures` by
        what was done to them; and, as lines of text, images `skipped` and `remarks` on annotations.
        """
        sources = split.sources
        if prefix == TRAIN:
            # training shuffles about 1000 images at a time, which should be of all years and scenes
            order = np.random.RandomState(_SHUFFLE_SEED).permutation(len(sources))
            sources = tuple(sources[i] for i in order)
        shards = min(requested_shards[prefix], len(sources))
        planned, tally = balanced(len(sources), shards), Tally(skipped=list(split.skipped))
        write_shards(
            record_files.shard_paths(self.staging, prefix, shards),
            planned,
            self._records(sources, np.repeat(range(shards), planned).tolist(), tally, prefix),
        )
        if not tally.images:
            first = tally.skipped[len(split.skipped)]
            raise UserError(f"none of the {len(sources)} images for {prefix} can be read, the first: {first}")
        summary = {**split.origin, "shards": shards, **tally.summary(list(self.class_ids), shards)}
        for line in examples.lines(prefix, summary, all_remarks=self.strict):
            log(line)
        if self.strict and tally.remarks:
            raise UserError(
                f"--strict: {len(tally.remarks)} faults in the annotations for {prefix}, listed above; "
                f"the first: {summary['remarks'][0]}"
            )
        return summary

    def _records(
        self, sources: Sequence[Source], shard_of: Sequence[int], tally: Tally, prefix: str
    ) -> Iterator[list[bytes]]:
        """Yield the records of each source in order, none of a skipped one, and count them by shard in `tally`."""
        cut_later = prefix == VALIDATION and self.views.tile_size is not None
        views = ViewConfig() if cut_later else self.views

        def try_examples(source: Source) -> list[Example] | PictureError:
            try:
                return make_examples(source, self.class_ids, views)
            except PictureError as error:
                return error

        results = _in_order(try_examples, sources, self.num_threads)
        progress = tqdm(results, desc=prefix, total=len(sources), unit="image", disable=None)
        for shard, result in zip(shard_of, progress, strict=True):
            if isinstance(result, PictureError):
                if not self.skip_bad_images:
                    raise UserError(f"{result} ({_SKIP_HINT})")
                tally.skipped.append(str(result))
                yield []
            else:
                for example in result:
                    tally.add(example, shard)
                yield [example.serialized for example in result]


def _in_order(function: Callable[[_Item], _Result], items: Iterable[_Item], num_threads: int) -> Iterator[_Result]:
    """Apply a function in threads, a bounded number of items ahead, and yield the results in order."""
    waiting: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > num_threads * _AHEAD_PER_THREAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _check_and_log_plan(data: DataSet, requested_shards: Mapping[str, int], strict: bool) -> None:
    for prefix, split in data.splits.items():
        if not split.sources:
            raise UserError(f"no image is left for {prefix}: all are skipped, the first: {split.skipped[0]}")
    log(f"{len(data.class_names)} classes: {', '.join(data.class_names)}")
    for remark in (*data.remarks, *data.notes):
        log(f"WARNING: {remark}")
    for prefix, split in data.splits.items():
        images, requested = len(split.sources), requested_shards[prefix]
        fewer = f", not {requested}: a shard needs at least one image" if images < requested else ""
        log(f"{prefix}: {split.name}, {images} images to {min(requested, images)} shards{fewer}")
    for prefix, flag in data.split_flags.items():
        if prefix not in data.splits:
            log(f"{prefix}: none; set {flag}{', or --validation_fraction' if prefix == VALIDATION else ''}")
    if strict and data.remarks:
        raise UserError(f"--strict: {data.remarks[0]}")

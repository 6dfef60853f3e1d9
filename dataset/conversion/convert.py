"""From a data set's annotations and pictures to TFRecord shards, labels.txt and dataset.json."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from dataset.conversion import report, staging
from dataset.conversion.examples import Example, make_example
from dataset.conversion.report import Tally
from dataset.records import record_files
from dataset.sources import labels
from dataset.sources.annotations import DataSet, Source, Split
from dataset.sources.pictures import PictureError
from utility.config.settings import LABELS_FILE
from utility.run import text_files
from utility.run.log import log

_SHUFFLE_SEED = 20180503
_AHEAD_PER_THREAD = 4  # images that are read before their turn to be written
_MOST = 99999  # five digits in a shard's name
_NAMED_BY = {
    record_files.TRAIN: "--train_splits, of COCO with --annotations",
    record_files.VALIDATION: "--validation_splits, of COCO with --validation_annotations",
}
_SKIP_HINT = "--skip_bad_images leaves such images out"

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def check_numbers(**numbers: int) -> None:
    """Raise a ValueError that names the first flag of these that is not from 1 to 99999."""
    for name, value in numbers.items():
        if not 1 <= value <= _MOST:
            raise ValueError(f"--{name}={value} must be from 1 to {_MOST}")


def convert(
    data: DataSet,
    output_directory: str | Path,
    *,
    train_shards: int = 16,
    validation_shards: int = 16,
    num_threads: int = 8,
    strict: bool = False,
    skip_bad_images: bool = False,
) -> dict[str, Any]:
    """Write `train-*` and `val-*` shards, `labels.txt` and `dataset.json`; return what the last one holds.

    The same input gives the same bytes, whatever `num_threads`. What the result holds is in `Converter.write_split`.

    Raises:
        OSError: a file is missing or cannot be written.
        ValueError: a bad argument or image; with `strict` also a box that would be clipped or dropped, and a wrong
            size in an annotation. `output_directory` is then as it was before.
    """
    check_numbers(train_shards=train_shards, validation_shards=validation_shards, num_threads=num_threads)
    shards = {record_files.TRAIN: train_shards, record_files.VALIDATION: validation_shards}
    for prefix, split in data.splits.items():
        if not split.sources:
            raise ValueError(f"no image is left for {prefix}: all are skipped, the first: {split.skipped[0]}")
    _log_plan(data, shards)
    class_ids = {name: class_id for class_id, name in enumerate(data.class_names, start=1)}
    output = Path(output_directory)
    with staging.staging_folder(output) as folder:
        labels.write_labels(folder / LABELS_FILE, data.class_names)
        converter = Converter(folder, class_ids, num_threads, strict, skip_bad_images)
        splits = {prefix: converter.write_split(prefix, split, shards) for prefix, split in data.splits.items()}
        info = {"class_names": list(data.class_names), **data.origin, "splits": splits}
        text_files.write_whole(folder / record_files.INFO_NAME, json.dumps(info, indent=1, ensure_ascii=False) + "\n")
        staging.publish(folder, output)
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

    def write_split(self, prefix: str, split: Split, shards_asked: Mapping[str, int]) -> dict[str, Any]:
        """Write the shards of a split to the staging folder, log what was found, and return the counts.

        They are the split's `origin`, its number of `shards`, of `images` and of `images_without_objects`, `objects`
        and the `difficult` ones among them by class, `dropped` boxes by reason, boxes `clipped`, wrong sizes in
        annotations (`size_differs`), what was done to `pictures`, and, as lines of text, the images `skipped` and the
        `remarks` on bad annotations.
        """
        sources = split.sources
        if prefix == record_files.TRAIN:
            # a reader shuffles some thousand images at a time; let those be of all years and scenes
            order = np.random.RandomState(_SHUFFLE_SEED).permutation(len(sources))
            sources = tuple(sources[i] for i in order)
        shards = min(shards_asked[prefix], len(sources))
        tally = Tally(skipped=list(split.skipped))
        staging.write_shards(
            record_files.shard_paths(self.staging, prefix, shards),
            staging.balanced(len(sources), shards),
            self._serialized(sources, tally, prefix),
        )
        if not tally.images:
            raise ValueError(f"none of the {len(sources)} images for {prefix} can be read")
        summary = {**split.origin, "shards": shards, **tally.summary(list(self.class_ids))}
        for line in report.lines(prefix, summary, all_remarks=self.strict):
            log(line)
        if self.strict and tally.remarks:
            raise ValueError(
                f"--strict: {len(tally.remarks)} faults in the annotations for {prefix}, listed above; "
                f"the first: {summary['remarks'][0]}"
            )
        return summary

    def _serialized(self, sources: Sequence[Source], tally: Tally, prefix: str) -> Iterator[bytes | None]:
        """Yield the record of each source in turn, None for one that is skipped, and count them."""
        examples = _in_order(self._try_example, sources, self.num_threads)
        for example in tqdm(examples, desc=prefix, total=len(sources), unit="image", disable=None):
            if isinstance(example, Example):
                tally.add(example)
                yield example.serialized
            elif self.skip_bad_images:
                tally.skipped.append(str(example))
                yield None
            else:
                raise ValueError(f"{example} ({_SKIP_HINT})")

    def _try_example(self, source: Source) -> Example | PictureError:
        try:
            return make_example(source, self.class_ids)
        except PictureError as error:
            return error


def _in_order(function: Callable[[_Item], _Result], items: Iterable[_Item], num_threads: int) -> Iterator[_Result]:
    """Apply a function in threads, and yield the results in the order of the items, a bounded number ahead."""
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


def _log_plan(data: DataSet, shards_asked: Mapping[str, int]) -> None:
    log(f"{len(data.class_names)} classes: {', '.join(data.class_names)}")
    for prefix, split in data.splits.items():
        images, asked = len(split.sources), shards_asked[prefix]
        fewer = f", not {asked}: a shard holds an image at least" if images < asked else ""
        log(f"{prefix}: {split.name}, {images} images to {min(asked, images)} shards{fewer}")
    for prefix, flag in _NAMED_BY.items():
        if prefix not in data.splits:
            log(f"{prefix}: none; name it with {flag}")

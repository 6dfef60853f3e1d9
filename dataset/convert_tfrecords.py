"""Convert a VOC directory, or COCO's annotations, to TFRecord shards, labels.txt and dataset.json.

    python dataset/convert_tfrecords.py --dataset_directory=VOCROOT --output_directory=./dataset/tfrecords
    python dataset/convert_tfrecords.py --format=coco --annotations=instances.json --images=FOLDER

VOCROOT holds VOC2007, VOC2012, VOC2007TEST or other folders, each with Annotations, ImageSets/Main and
JPEGImages. Bad boxes are clipped or dropped and listed; nothing appears under its name before all is written.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

# Run as a script, the path starts with dataset/; the packages are one level up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from tqdm import tqdm

from dataset import coco, conversion_report, labels, records, shard_files, voc_sources
from dataset.annotations import DataSet, Source, Split
from dataset.conversion_report import Tally
from dataset.examples import Example, make_example
from dataset.pictures import PictureError
from utility import flags, runtime
from utility.config import LABELS_FILE

_SHUFFLE_SEED = 20180503
_AHEAD_PER_THREAD = 4  # images that are read before their turn to be written
_MOST = 99999  # five digits in a shard's name
_NAMED_BY = {
    records.TRAIN: "--train_splits, of COCO with --annotations",
    records.VALIDATION: "--validation_splits, of COCO with --validation_annotations",
}
_SKIP_HINT = "--skip_bad_images leaves such images out"

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def main() -> None:
    """Convert as the flags say."""
    values = flags.FLAGS
    writing: dict[str, Any] = {
        "output_directory": values.output_directory,
        "train_shards": values.train_shards,
        "validation_shards": values.validation_shards,
        "num_threads": values.num_threads,
        "strict": values.strict,
        "skip_bad_images": values.skip_bad_images,
    }
    if values.format == "coco":
        convert_coco(
            annotations=values.annotations,
            images=values.images,
            validation_annotations=values.validation_annotations,
            validation_images=values.validation_images,
            **writing,
        )
    else:
        convert(
            dataset_directory=values.dataset_directory,
            train_splits=values.train_splits,
            validation_splits=values.validation_splits,
            train_image_set=values.train_image_set,
            validation_image_set=values.validation_image_set,
            labels_file=values.labels_file,
            **writing,
        )


def convert(
    *,
    dataset_directory: str | Path,
    output_directory: str | Path,
    train_splits: Sequence[str] | None = None,
    validation_splits: Sequence[str] | None = None,
    train_image_set: str = "trainval",
    validation_image_set: str = "test",
    train_shards: int = 16,
    validation_shards: int = 16,
    num_threads: int = 8,
    labels_file: str | None = None,
    strict: bool = False,
    skip_bad_images: bool = False,
) -> dict[str, Any]:
    """Write `train-*` and `val-*` shards, `labels.txt` and `dataset.json`; return what the last one holds.

    Splits None: those of VOC2007 and VOC2012 that are there, and VOC2007TEST; [] for none. `labels_file`:
    None for VOC's 20 classes, 'auto' for the names in the annotations, or a file. The same input gives the
    same bytes, whatever `num_threads`. The result is

        {"class_names": [...], "dataset_directory": "...", "splits": {"train": {...}, "val": {...}}}

    where a split tells of its `source_splits`, `image_set` and `shards`, the number of `images` and of
    `images_without_objects`, `objects` and the `difficult` ones among them by class, `dropped` boxes by
    reason, boxes `clipped`, sizes in annotations that are wrong (`size_differs`), what was done to `pictures`,
    and, as lines of text, the images `skipped` and the `remarks` on bad annotations.

    Raises:
        OSError: a folder or file is missing or cannot be written.
        ValueError: a bad argument, class name, annotation or image; with `strict` also a box that would be
            clipped or dropped, and a size that is wrong. `output_directory` is then as it was before.
    """
    shards = _checked_numbers(train_shards, validation_shards, num_threads)
    data = voc_sources.read_data_set(
        Path(dataset_directory),
        train_splits=train_splits,
        validation_splits=validation_splits,
        train_image_set=train_image_set,
        validation_image_set=validation_image_set,
        labels_file=labels_file,
        skip_bad=skip_bad_images,
    )
    return _write_data_set(data, Path(output_directory), shards, num_threads, strict, skip_bad_images)


def convert_coco(
    *,
    output_directory: str | Path,
    annotations: str | Path | None = None,
    images: str | Path | None = None,
    validation_annotations: str | Path | None = None,
    validation_images: str | Path | None = None,
    train_shards: int = 16,
    validation_shards: int = 16,
    num_threads: int = 8,
    strict: bool = False,
    skip_bad_images: bool = False,
) -> dict[str, Any]:
    """Do as `convert` from COCO's instances JSON files and the folders with their images.

    One pair may be left out. Class ids are 1 to C in the order of the categories' ids; an image's id in the records
    is its `id` in the JSON. Of the result, `category_ids` holds the category id of each class, and a split tells of
    its `annotations` and its `image_directory` where VOC's tells of source splits and image set.

    Raises: as `convert`.
    """
    shards = _checked_numbers(train_shards, validation_shards, num_threads)
    data = coco.read_data_set(
        annotations, images, validation_annotations, validation_images, skip_missing=skip_bad_images
    )
    return _write_data_set(data, Path(output_directory), shards, num_threads, strict, skip_bad_images)


def _write_data_set(
    data: DataSet, output: Path, shards: Mapping[str, int], num_threads: int, strict: bool, skip_bad_images: bool
) -> dict[str, Any]:
    for prefix, split in data.splits.items():
        if not split.sources:
            raise ValueError(f"no image is left for {prefix}: all are skipped, the first: {split.skipped[0]}")
    _say_plan(data, shards)
    class_ids = {name: class_id for class_id, name in enumerate(data.class_names, start=1)}
    with shard_files.staging_folder(output) as staging:
        labels.write_labels(staging / LABELS_FILE, data.class_names)
        converter = _Converter(staging, class_ids, num_threads, strict, skip_bad_images)
        info = {
            "class_names": list(data.class_names),
            **data.origin,
            "splits": {prefix: converter.write_split(prefix, split, shards) for prefix, split in data.splits.items()},
        }
        text = json.dumps(info, indent=1, ensure_ascii=False) + "\n"
        labels.write_whole(staging / records.INFO_NAME, text)
        shard_files.publish(staging, output)
    runtime.log(f"wrote {output}")
    return info


@dataclass(frozen=True)
class _Converter:
    """The settings that all splits share."""

    staging: Path
    class_ids: dict[str, int]
    num_threads: int
    strict: bool
    skip_bad_images: bool

    def write_split(self, prefix: str, split: Split, shards_asked: Mapping[str, int]) -> dict[str, Any]:
        """Write the shards of a split to the staging folder, tell what was found, and return the counts."""
        sources = split.sources
        if prefix == records.TRAIN:
            # A reader shuffles some thousand images at a time; let those be of all years and scenes.
            order = np.random.RandomState(_SHUFFLE_SEED).permutation(len(sources))
            sources = tuple(sources[i] for i in order)
        shards = min(shards_asked[prefix], len(sources))
        tally = Tally(skipped=list(split.skipped))
        shard_files.write_shards(
            records.shard_paths(self.staging, prefix, shards),
            shard_files.balanced(len(sources), shards),
            self._serialized(sources, tally, prefix),
        )
        if not tally.images:
            raise ValueError(f"none of the {len(sources)} images for {prefix} can be read")
        summary = {
            **split.origin,
            "shards": shards,
            **tally.summary(list(self.class_ids)),
        }
        for line in conversion_report.lines(prefix, summary, all_remarks=self.strict):
            runtime.log(line)
        if self.strict and tally.remarks:
            raise ValueError(
                f"--strict: {len(tally.remarks)} faults in the annotations for {prefix}, listed above; "
                f"the first: {summary['remarks'][0]}"
            )
        return summary

    def _serialized(self, sources: Sequence[Source], tally: Tally, prefix: str) -> Iterator[bytes | None]:
        """Give the record of each source in turn, None for one that is skipped, and count them."""
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
    """Apply a function in threads, and give the results in the order of the items, a bounded number ahead."""
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


def _checked_numbers(train_shards: int, validation_shards: int, num_threads: int) -> dict[str, int]:
    """Return the number of shards asked for by prefix."""
    for name, value in (
        ("train_shards", train_shards),
        ("validation_shards", validation_shards),
        ("num_threads", num_threads),
    ):
        if not 1 <= value <= _MOST:
            raise ValueError(f"--{name}={value} must be from 1 to {_MOST}")
    return {records.TRAIN: train_shards, records.VALIDATION: validation_shards}


def _say_plan(data: DataSet, shards_asked: Mapping[str, int]) -> None:
    runtime.log(f"{len(data.class_names)} classes: {', '.join(data.class_names)}")
    for prefix, split in data.splits.items():
        images, asked = len(split.sources), shards_asked[prefix]
        fewer = f", not {asked}: a shard holds an image at least" if images < asked else ""
        runtime.log(f"{prefix}: {split.name}, {images} images to {min(asked, images)} shards{fewer}")
    for prefix, flag in _NAMED_BY.items():
        if prefix not in data.splits:
            runtime.log(f"{prefix}: none; name it with {flag}")


if __name__ == "__main__":
    runtime.run(main, flags.define_convert)

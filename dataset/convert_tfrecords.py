"""Convert a VOC directory to TFRecord shards, labels.txt and dataset.json.

    python dataset/convert_tfrecords.py --dataset_directory=VOCROOT --output_directory=./dataset/tfrecords

VOCROOT holds VOC2007, VOC2012, VOC2007TEST or other folders, each with Annotations, ImageSets/Main and
JPEGImages. Bad boxes are clipped or dropped and listed; nothing appears under its name before all is written.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

# Run as a script, the path starts with dataset/; the packages are one level up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from tqdm import tqdm

from dataset import conversion_report, labels, records, shard_files, voc_sources
from dataset.conversion_report import Tally
from dataset.pictures import PictureError
from dataset.voc_examples import Source, VocExample, make_example
from dataset.voc_sources import Sources
from utility import flags, runtime
from utility.config import LABELS_FILE

_SHUFFLE_SEED = 20180503
_AHEAD_PER_THREAD = 4  # images that are read before their turn to be written
_MOST = 99999  # five digits in a shard's name
_SKIP_HINT = "--skip_bad_images leaves such images out"

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class _Split:
    """What becomes `{prefix}-*`: the images read, and the number of shards asked for."""

    prefix: str
    sources: Sources
    shards: int


def main() -> None:
    """Convert as the flags say."""
    values = flags.FLAGS
    convert(
        dataset_directory=values.dataset_directory,
        output_directory=values.output_directory,
        train_splits=values.train_splits,
        validation_splits=values.validation_splits,
        train_image_set=values.train_image_set,
        validation_image_set=values.validation_image_set,
        train_shards=values.train_shards,
        validation_shards=values.validation_shards,
        num_threads=values.num_threads,
        labels_file=values.labels_file,
        strict=values.strict,
        skip_bad_images=values.skip_bad_images,
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
    reason, boxes `clipped`, `<size>`s that are wrong (`size_differs`), what was done to `pictures`, and, as
    lines of text, the images `skipped` and the `remarks` on bad annotations.

    Raises:
        OSError: a folder or file is missing or cannot be written.
        ValueError: a bad argument, class name, annotation or image; with `strict` also a box that would be
            clipped or dropped, and a `<size>` that is wrong. `output_directory` is then as it was before.
    """
    root, output = Path(dataset_directory), Path(output_directory)
    _check_arguments(root, train_shards, validation_shards, num_threads)
    training = voc_sources.choose_train_splits(root, train_splits)
    validation = voc_sources.choose_validation_splits(root, validation_splits, validation_image_set)
    if not (training or validation):
        raise ValueError("--train_splits and --validation_splits are both empty: no split to convert")
    splits = [
        _checked(_Split(prefix, voc_sources.read_sources(root, names, image_set, skip_bad_images), shards))
        for prefix, names, image_set, shards in (
            (records.TRAIN, training, train_image_set, train_shards),
            (records.VALIDATION, validation, validation_image_set, validation_shards),
        )
        if names
    ]
    every_source = [source for split in splits for source in split.sources.sources]
    class_names = voc_sources.choose_class_names(labels_file, every_source)
    _say_plan(splits, class_names)
    class_ids = {name: class_id for class_id, name in enumerate(class_names, start=1)}
    with shard_files.staging_folder(output) as staging:
        labels.write_labels(staging / LABELS_FILE, class_names)
        converter = _Converter(staging, class_ids, num_threads, strict, skip_bad_images)
        info = {
            "class_names": list(class_names),
            "dataset_directory": str(root.resolve()),
            "splits": {split.prefix: converter.write_split(split) for split in splits},
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

    def write_split(self, split: _Split) -> dict[str, Any]:
        """Write the shards of a split to the staging folder, tell what was found, and return the counts."""
        sources = split.sources.sources
        if split.prefix == records.TRAIN:
            # A reader shuffles some thousand images at a time; let those be of all years and scenes.
            order = np.random.RandomState(_SHUFFLE_SEED).permutation(len(sources))
            sources = tuple(sources[i] for i in order)
        shards = min(split.shards, len(sources))
        tally = Tally(skipped=list(split.sources.skipped))
        shard_files.write_shards(
            records.shard_paths(self.staging, split.prefix, shards),
            shard_files.balanced(len(sources), shards),
            self._serialized(sources, tally, split.prefix),
        )
        if not tally.images:
            raise ValueError(f"none of the {len(sources)} images for {split.prefix} can be read")
        summary = {
            "source_splits": list(split.sources.split_names),
            "image_set": split.sources.image_set,
            "shards": shards,
            **tally.summary(list(self.class_ids)),
        }
        for line in conversion_report.lines(split.prefix, summary, all_remarks=self.strict):
            runtime.log(line)
        if self.strict and tally.remarks:
            raise ValueError(
                f"--strict: {len(tally.remarks)} faults in the annotations for {split.prefix}, listed above; "
                f"the first: {summary['remarks'][0]}"
            )
        return summary

    def _serialized(self, sources: Sequence[Source], tally: Tally, prefix: str) -> Iterator[bytes | None]:
        """Give the record of each source in turn, None for one that is skipped, and count them."""
        examples = _in_order(self._try_example, sources, self.num_threads)
        for example in tqdm(examples, desc=prefix, total=len(sources), unit="image", disable=None):
            if isinstance(example, VocExample):
                tally.add(example)
                yield example.serialized
            elif self.skip_bad_images:
                tally.skipped.append(str(example))
                yield None
            else:
                raise ValueError(f"{example} ({_SKIP_HINT})")

    def _try_example(self, source: Source) -> VocExample | PictureError:
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


def _check_arguments(root: Path, train_shards: int, validation_shards: int, num_threads: int) -> None:
    if not root.is_dir():
        raise FileNotFoundError(f"--dataset_directory: {root} is not a folder")
    for name, value in (
        ("train_shards", train_shards),
        ("validation_shards", validation_shards),
        ("num_threads", num_threads),
    ):
        if not 1 <= value <= _MOST:
            raise ValueError(f"--{name}={value} must be from 1 to {_MOST}")


def _checked(split: _Split) -> _Split:
    """Refuse a split without images, and validation images that results could not tell apart."""
    ids = Counter(source.annotation.image_id for source in split.sources.sources)
    if not ids:
        raise ValueError(f"no image is left for {split.prefix}: all are skipped, the first: {split.sources.skipped[0]}")
    doubled = [image_id for image_id, count in ids.items() if count > 1]
    if doubled and split.prefix == records.VALIDATION:
        names = ", ".join(split.sources.split_names)
        raise ValueError(f"image {doubled[0]} is in several of the validation splits {names}: rename it")
    return split


def _say_plan(splits: Sequence[_Split], class_names: Sequence[str]) -> None:
    runtime.log(f"{len(class_names)} classes: {', '.join(class_names)}")
    for split in splits:
        images = len(split.sources.sources)
        names = ", ".join(split.sources.split_names)
        fewer = f", not {split.shards}: a shard holds an image at least" if images < split.shards else ""
        shards = f"{min(split.shards, images)} shards{fewer}"
        runtime.log(f"{split.prefix}: {names} ({split.sources.image_set}), {images} images to {shards}")
    for prefix, flag in ((records.TRAIN, "train_splits"), (records.VALIDATION, "validation_splits")):
        if not any(split.prefix == prefix for split in splits):
            runtime.log(f"{prefix}: none; name folders with --{flag}")


if __name__ == "__main__":
    runtime.run(main, flags.define_convert)

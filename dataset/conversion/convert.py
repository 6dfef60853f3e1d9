"""Writes a data set's annotations and pictures as TFRecord shards, with labels.txt and dataset.json."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dataset.conversion.examples import (
    CLIPPED,
    INVERTED,
    SCALED,
    SIZE_DIFFERS,
    Converted,
    Remark,
    make_records,
)
from dataset.records import record_files
from dataset.sources import labels
from dataset.sources.annotations import TRAIN, VALIDATION, DataSet, Source, Split
from dataset.sources.pictures import PictureError
from utility.config.settings import LABELS_FILE, ViewConfig
from utility.errors import UserError
from utility.files import text_files, tfrecord
from utility.run.folder_lock import locked
from utility.run.log import log

SHARDS: Mapping[str, int] = {TRAIN: 16, VALIDATION: 16}
_MAX_NUMBER = 99999  # a shard's name has five digits
_STAGING_NAME = ".converting"
_SHUFFLE_SEED = 20180503
_AT_ONCE_PER_THREAD = 8  # images whose records are in memory
_MAX_DETAILS = 20  # lines on skipped images and remarks in the log


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
    their tiles itself. `_write_split` describes the entry of a split.

    Raises:
        OSError: a file is missing or cannot be written.
        UserError: a bad argument or image, or another program is writing to `output_directory`; with `strict` also a
            box that would be clipped or dropped, a wrong image size in an annotation, or a remark on the data set.
            `output_directory` is left unchanged.
    """
    check_numbers(train_shards=shards[TRAIN], validation_shards=shards[VALIDATION], num_threads=num_threads)
    for prefix, split in data.splits.items():
        if not split.sources:
            raise UserError(f"no image is left for {prefix}: all are skipped, the first: {split.skipped[0]}")
    log(f"{len(data.class_names)} classes: {', '.join(data.class_names)}")
    for remark in (*data.remarks, *data.notes):
        log(f"WARNING: {remark}")
    for prefix, split in data.splits.items():
        images, requested = len(split.sources), shards[prefix]
        fewer = f", not {requested}: a shard needs at least one image" if images < requested else ""
        log(f"{prefix}: {split.name}, {images} images to {min(requested, images)} shards{fewer}")
    for prefix, flag in data.split_flags.items():
        if prefix not in data.splits:
            log(f"{prefix}: none; set {flag}{', or --validation_fraction' if prefix == VALIDATION else ''}")
    if strict and data.remarks:
        raise UserError(f"--strict: {data.remarks[0]}")

    output, views = Path(output_directory), views or ViewConfig()
    extent = {"pixel_extent": data.pixel_extent}
    info = {"class_names": list(data.class_names), **data.origin, **extent, "views": asdict(views)}
    if data.remarks or data.notes:
        info["remarks"] = [*data.remarks, *data.notes]
    with _staging_folder(output) as folder:
        labels.write_labels(folder / LABELS_FILE, data.class_names)
        info["splits"] = {}
        for prefix, split in data.splits.items():
            count, split_views = min(shards[prefix], len(split.sources)), views
            if prefix == VALIDATION and views.tile_size is not None:
                split_views = ViewConfig()
            paths = record_files.shard_paths(folder, prefix, count)
            summary = _write_split(prefix, split, data.class_names, paths, split_views, num_threads, skip_bad_images)
            _log_summary(prefix, summary, all_remarks=strict)
            if strict and summary["remarks"]:
                raise UserError(
                    f"--strict: {len(summary['remarks'])} faults in the annotations for {prefix}, listed above; "
                    f"the first: {summary['remarks'][0]}"
                )
            info["splits"][prefix] = summary
        text_files.write_whole(folder / record_files.INFO_NAME, json.dumps(info, indent=1, ensure_ascii=False) + "\n")
        _publish(folder, output)
    log(f"wrote {output}")
    return info


def _write_split(
    prefix: str,
    split: Split,
    class_names: Sequence[str],
    shards: Sequence[Path],
    views: ViewConfig,
    num_threads: int,
    skip_bad_images: bool,
) -> dict[str, Any]:
    """Write the shards of a split, and return its summary for `dataset.json`.

    The summary holds the split's `origin`; numbers of `shards`, `images` and `images_without_objects`; numbers of
    images in each shard, `images_by_shard`: all, those with objects, and those with objects that are not difficult;
    numbers of `objects` by class, and of the `difficult` ones among them; numbers of boxes `dropped`, by reason, of
    boxes `clipped`, and of those with `corners_swapped`; numbers of annotations with another size than the picture's,
    `scaled` or not (`size_differs`); the number of pictures left out because all of their boxes are broken,
    `without_good_box`; numbers of `pictures` by what was done to them; and, as lines of text, images `skipped` and
    `remarks` on annotations.
    """
    sources, class_ids = split.sources, {name: class_id for class_id, name in enumerate(class_names, start=1)}
    if prefix == TRAIN:
        # training shuffles about 1000 images at a time, which should be of all years and scenes
        sources = tuple(sources[i] for i in np.random.RandomState(_SHUFFLE_SEED).permutation(len(sources)))
    number_of_shard = [
        number for number, part in enumerate(np.array_split(np.arange(len(sources)), len(shards))) for _ in part
    ]
    images, with_objects, not_difficult = ([0] * len(shards) for _ in range(3))
    objects, difficult, picture_notes = Counter[str](), Counter[str](), Counter[str]()
    remarks: list[Remark] = []
    without_good_box = 0
    skipped = list(split.skipped)

    def converted(source: Source) -> Converted | PictureError:
        try:
            return make_records(source, class_ids, views)
        except PictureError as error:
            return error

    for path in shards:
        path.touch()
    at_once = num_threads * _AT_ONCE_PER_THREAD
    with ThreadPoolExecutor(num_threads) as pool, tqdm(sources, prefix, unit="image", disable=None) as progress:
        for start in range(0, len(sources), at_once):
            results = pool.map(converted, sources[start : start + at_once])
            for number, result in zip(number_of_shard[start : start + at_once], results, strict=True):
                progress.update()
                if isinstance(result, PictureError):
                    if not skip_bad_images:
                        raise UserError(f"{result} (--skip_bad_images leaves such images out)")
                    skipped.append(str(result))
                    continue
                with shards[number].open("ab") as shard:
                    shard.writelines(tfrecord.frame(record.serialized) for record in result.records)
                for record in result.records:
                    images[number] += 1
                    with_objects[number] += bool(record.objects)
                    not_difficult[number] += not all(each.difficult for each in record.objects)
                    objects.update(each.name for each in record.objects)
                    difficult.update(each.name for each in record.objects if each.difficult)
                remarks += result.remarks
                without_good_box += not result.records
                picture_notes.update([result.picture_note] if result.picture_note else [])
    if not sum(images):
        first = [*skipped[len(split.skipped) :], *(remark.text for remark in remarks)][0]
        raise UserError(f"none of the {len(sources)} images for {prefix} can be used, the first: {first}")
    reasons = Counter(remark.reason for remark in remarks)
    clipped, inverted, scaled, size_differs = (
        reasons.pop(reason, 0) for reason in (CLIPPED, INVERTED, SCALED, SIZE_DIFFERS)
    )
    return {
        **split.origin,
        "shards": len(shards),
        "images": sum(images),
        "images_without_objects": sum(images) - sum(with_objects),
        "images_by_shard": {
            "images": images,
            "with_objects": with_objects,
            "with_objects_not_difficult": not_difficult,
        },
        "objects": {name: objects[name] for name in class_names},
        "difficult": {name: difficult[name] for name in class_names},
        "dropped": dict(sorted(reasons.items())),
        "clipped": clipped,
        "corners_swapped": inverted,
        "scaled": scaled,
        "size_differs": size_differs,
        "without_good_box": without_good_box,
        "pictures": dict(sorted(picture_notes.items())),
        "skipped": skipped,
        "remarks": sorted(remark.text for remark in remarks),
    }


def _log_summary(prefix: str, summary: Mapping[str, Any], *, all_remarks: bool) -> None:
    """Log a split's counts, then the skipped images and the remarks."""
    log(
        f"{prefix}: {summary['images']} images, {summary['images_without_objects']} of them without objects; "
        f"{sum(summary['objects'].values())} objects, {sum(summary['difficult'].values())} of them difficult"
    )
    faults = {
        **{f"boxes dropped, {reason}": count for reason, count in summary["dropped"].items()},
        "boxes clipped": summary["clipped"],
        "boxes with swapped corners, mended": summary["corners_swapped"],
        "images resized after labelling, their boxes scaled": summary["scaled"],
        "wrong image sizes": summary["size_differs"],
        "images left out, as all their boxes are broken": summary["without_good_box"],
        **{f"pictures {note}": count for note, count in summary["pictures"].items()},
        "images skipped": len(summary["skipped"]),
    }
    for fault, count in faults.items():
        if count:
            log(f"  {fault}: {count}")
    details = summary["skipped"] + summary["remarks"]
    logged = details if all_remarks else details[:_MAX_DETAILS]
    for line in logged:
        log(f"    {line}")
    if len(details) > len(logged):
        log(f"    and {len(details) - len(logged)} more in dataset.json")


@contextlib.contextmanager
def _staging_folder(output_directory: Path) -> Iterator[Path]:
    """Create an empty folder inside `output_directory`, and remove it on exit, also after an error.

    It is on the same file system, so that each file moves to its final name in one step. A folder that a killed run
    has left is emptied. A UserError if another program is writing to `output_directory`.
    """
    folder = output_directory / _STAGING_NAME
    with locked(output_directory, "--output_directory"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _publish(staging: Path, output_directory: Path) -> None:
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

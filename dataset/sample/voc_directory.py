"""The sample set in VOC layout: pictures of drawn scenes, annotations and image sets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dataset.sample import scenes
from dataset.sources import labels, voc_files
from dataset.sources.annotations import LabelledObject
from utility.config.settings import LABELS_FILE
from utility.files import text_files
from utility.run.folder_lock import locked
from utility.run.log import log

_SPLITS = (("VOC2007", "trainval"), ("VOC2007TEST", "test"))
_MARKER = "sample.json"  # tells a drawn sample from other VOC directories
_OBJECT_COUNTS = (0.04, 0.16, 0.22, 0.22, 0.17, 0.11, 0.08)  # fraction of images with 0, 1, 2, … objects
_QUALITY = 90


def make(output_directory: str | Path, *, num_train: int = 200, num_test: int = 50, seed: int = 0) -> None:
    """Write VOC2007 (trainval) and VOC2007TEST (test) with drawn pictures, and `labels.txt` with their classes.

    The same arguments give the same files; pictures of one split do not depend on the number of the other. Image sets
    are written last, so that an interrupted run leaves nothing that can be converted.

    Raises:
        ValueError: a number is too small, the folder has a VOC directory that is not a drawn sample, or another
            program is writing there.
    """
    root = Path(output_directory)
    for name, value, least in (("num_train", num_train, 1), ("num_test", num_test, 1), ("seed", seed, 0)):
        if value < least:
            raise ValueError(f"--{name}={value} must be at least {least}")
    with locked(root, "--output_directory"):
        _draw(root, {"num_train": num_train, "num_test": num_test}, seed)
    log(f"wrote {num_train} + {num_test} pictures of {', '.join(scenes.CLASS_NAMES)} to {root}")


def _draw(root: Path, numbers: Mapping[str, int], seed: int) -> None:
    """Draw the sample set into a folder; the numbers of pictures are those of the splits, by flag."""
    foreign = [root / split for split, _ in _SPLITS if (root / split).exists()]
    if foreign and not (root / _MARKER).exists():
        raise ValueError(
            f"{foreign[0]} exists and is not a drawn sample: choose another --output_directory, "
            "so that your data is not mixed with drawn pictures"
        )
    for split, image_set in _SPLITS:
        (root / split / "ImageSets" / "Main" / f"{image_set}.txt").unlink(missing_ok=True)
    text_files.write_whole(root / _MARKER, json.dumps({**numbers, "seed": seed}) + "\n")
    labels.write_labels(root / LABELS_FILE, scenes.CLASS_NAMES)
    ids = {
        split: _draw_split(root / split, number, [seed, index])
        for index, ((split, _), number) in enumerate(zip(_SPLITS, numbers.values(), strict=True))
    }
    for split, image_set in _SPLITS:
        path = root / split / "ImageSets" / "Main" / f"{image_set}.txt"
        text_files.write_whole(path, "".join(f"{image_id}\n" for image_id in ids[split]))


def _draw_split(split_dir: Path, number: int, seed: list[int]) -> list[str]:
    """Write the pictures and annotations of a split, and return their ids."""
    images = split_dir / "JPEGImages"
    images.mkdir(parents=True, exist_ok=True)
    ids = [f"{seed[1]}{index:05d}" for index in range(number)]
    for index, image_id in enumerate(tqdm(ids, desc=split_dir.name, unit="picture", disable=None)):
        rng = np.random.default_rng([*seed, index])
        image, objects = scenes.draw_scene(rng, int(rng.choice(len(_OBJECT_COUNTS), p=_OBJECT_COUNTS)))
        image.save(images / f"{image_id}.jpg", quality=_QUALITY)
        text = _annotation(f"{image_id}.jpg", split_dir.name, image.size, objects)
        text_files.write_whole(voc_files.annotation_path(split_dir, image_id), text)
    return ids


def _annotation(filename: str, folder: str, size: tuple[int, int], objects: Sequence[LabelledObject]) -> str:
    """Return the XML of an annotation as VOC writes it; `size` is width, height in pixels."""
    return (
        f"<annotation>\n\t<folder>{folder}</folder>\n\t<filename>{filename}</filename>\n"
        "\t<source><database>Drawn sample</database></source>\n"
        f"\t<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>\n"
        "\t<segmented>0</segmented>\n"
        f"{''.join(map(_object, objects))}</annotation>\n"
    )


def _object(voc_object: LabelledObject) -> str:
    ymin, xmin, ymax, xmax = voc_object.box_yxyx_px
    return (
        f"\t<object>\n\t\t<name>{voc_object.name}</name>\n\t\t<pose>Unspecified</pose>\n"
        f"\t\t<truncated>{voc_object.truncated:d}</truncated>\n"
        f"\t\t<difficult>{voc_object.difficult:d}</difficult>\n"
        f"\t\t<bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox>\n"
        "\t</object>\n"
    )

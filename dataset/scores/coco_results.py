"""Detections in COCO's results format, and their COCO scores if pycocotools is installed."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dataset.records import record_files
from dataset.scores.detection_store import NO_DETECTIONS, ClassDetections
from dataset.sources import coco
from dataset.sources.annotations import VALIDATION
from utility.errors import UserError
from utility.files.text_files import whole_file

MOST_PER_IMAGE = 100  # "at most 100 top-scoring detections per image (across all categories)", COCO's rules say
REQUIREMENT = "pycocotools (pip install -r requirements-coco.txt)"


@dataclass(frozen=True)
class CocoResults:
    """How to write and score detections in COCO images.

    `category_ids` has the category id of class id i at index i - 1. `annotations` is the instances JSON to score
    against, None for no score.
    """

    category_ids: tuple[int, ...]
    annotations: str | None

    def finish(self, pred_dir: Path, parts: Iterable[Mapping[int, ClassDetections]]) -> list[str]:
        """Write the results, given as in `write`, and score them; return lines for the log."""
        path = pred_dir / "detections.json"
        write(path, parts, self.category_ids)
        wrote = f"wrote {path}, COCO's results format"
        if self.annotations is None:
            return [wrote, f"--coco_annotations=instances.json scores it by COCO's rules; it needs {REQUIREMENT}"]
        return [wrote, *score(path, self.annotations)[1]]


def for_records(data_dir: str | Path, annotations: str | None) -> CocoResults | None:
    """Return how to write the detections in a data set's validation images, None if these are not COCO's.

    `annotations` is the value of --coco_annotations. An OSError if that does not exist; a UserError if the records are
    not COCO's or of another set, or pycocotools is missing: before the detection instead of after it.
    """
    info = record_files.read_dataset_info(data_dir) if (Path(data_dir) / record_files.INFO_NAME).is_file() else {}
    if "category_ids" not in info:
        if annotations:
            raise UserError(
                f"--coco_annotations={annotations}: the records in {data_dir} are not made with --format=coco; leave"
                " the flag out"
            )
        return None
    if annotations:
        instances = coco.read_instances(annotations)
        if [*instances.category_names.items()] != [*zip(info["category_ids"], info["class_names"], strict=True)]:
            raise UserError(f"--coco_annotations={annotations} has other categories than the records in {data_dir}")
        validation, images = info["splits"].get(VALIDATION), len(instances.annotations)
        left_out = validation.get("without_good_box", 0) if validation else 0
        converted = validation["images"] + len(validation["skipped"]) + left_out if validation else 0
        if converted != images:
            raise UserError(
                f"--coco_annotations={annotations} has {images} images, but the validation records in {data_dir} were"
                f" made of {converted}: give the file that they were made of"
            )
        if importlib.util.find_spec("pycocotools") is None:
            raise UserError(f"--coco_annotations={annotations}: scoring needs {REQUIREMENT}; or leave the flag out")
    return CocoResults(tuple(info["category_ids"]), annotations or None)


def write(path: str | Path, parts: Iterable[Mapping[int, ClassDetections]], category_ids: Sequence[int]) -> None:
    """Write `as_results` of detections as JSON, one detection a line; image ids are COCO's in decimal digits.

    Each of the `parts` has all detections of some images by class id; they are written one after the other. Ten
    decimals keep any two float32 scores above .01 distinct.
    """
    results = (result for part in parts for result in as_results(part, category_ids))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as stream:
        stream.write("[\n")
        stream.writelines((",\n" if number else "") + json.dumps(result) for number, result in enumerate(results))
        stream.write("\n]\n")


def as_results(detections: Mapping[int, ClassDetections], category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Return the best MOST_PER_IMAGE detections of each image in COCO's format, by image and falling score.

    Boxes become x, y, width, height in pixels, ids become COCO's. Pixels are already COCO's edges, because records
    hold edges divided by the size: a width is xmax - xmin, without the 1 that VOC adds.
    """
    found = [NO_DETECTIONS, *detections.values()]
    class_ids = np.repeat([0, *detections], [len(each) for each in found])
    image_ids = np.concatenate([each.image_ids for each in found]).astype(np.int64)
    scores = np.concatenate([each.scores for each in found])
    ymin, xmin, ymax, xmax = np.concatenate([each.boxes_yxyx_px for each in found]).T
    boxes_xywh = np.stack([xmin, ymin, xmax - xmin, ymax - ymin], axis=1)
    order = np.lexsort((-scores, image_ids))
    _, starts, counts = np.unique(image_ids[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(starts, counts)  # in its image
    return [
        {
            "image_id": int(image_ids[row]),
            "category_id": category_ids[class_ids[row] - 1],
            "bbox": boxes_xywh[row].round(4).tolist(),
            "score": round(float(scores[row]), 10),
        }
        for row in order[rank < MOST_PER_IMAGE]
    ]


def score(results_path: str | Path, annotations: str | Path) -> tuple[list[float], list[str]]:
    """Score results with pycocotools; return its twelve figures, and the lines that it prints.

    The figures are AP, AP50, AP75, AP of small, medium and large objects, and six recalls, each in [0, 1], or -1 for
    a group without objects. Results without any detection score 0. A UserError if the annotations cannot be read, or
    lack the image of a detection.
    """
    from pycocotools.coco import COCO  # noqa: PLC0415 (optional)
    from pycocotools.cocoeval import COCOeval  # noqa: PLC0415

    results = json.loads(Path(results_path).read_text(encoding="utf-8"))
    truth = COCO()
    truth.dataset = coco.load(annotations)
    for number, entry in enumerate(truth.dataset["annotations"], start=1):  # what some tools leave out or do otherwise
        entry["id"] = number  # pycocotools 2.0.11 takes a match with id 0 for none
        entry.setdefault("iscrowd", 0)
        entry.setdefault("area", entry["bbox"][2] * entry["bbox"][3])  # decides what is small or large
    unknown = {result["image_id"] for result in results} - {image["id"] for image in truth.dataset["images"]}
    if unknown:
        raise UserError(
            f"{results_path} has detections in {len(unknown)} images, the first {min(unknown)}, that {annotations}"
            " does not have: score against the file that the records were made of"
        )
    if not results:
        return [0.0] * 12, [f"{results_path} holds no detection, so the score is 0"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    lines = [line.strip() for line in printed.getvalue().splitlines() if line.strip().startswith("Average")]
    return evaluation.stats.tolist(), lines

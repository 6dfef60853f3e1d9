"""Score detections by the rules of the PASCAL VOC devkit: average precision per class, and their mean.

    python voc_eval.py --dataset_directory=VOCROOT

reads the annotations of VOCROOT/VOC2007TEST and the results that eval_ssd.py wrote to ./logs/predict.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dataset import labels, voc
from dataset.annotations import Annotation
from dataset.voc_metric import evaluate, format_report
from utility import flags, runtime
from utility.curves import draw_precision_recall


def run(
    *,
    dataset_directory: str | Path,
    split: str = "VOC2007TEST",
    image_set: str = "test",
    pred_dir: str | Path = "./logs/predict",
    labels_file: str | Path | None = None,
    output_directory: str | Path | None = None,
    use_07_metric: bool = True,
    iou_threshold: float = 0.5,
) -> dict[str, Any]:
    """Score a folder of results files, print the figures, and write them to voc_eval.json and precision_recall.png.

    Args:
        dataset_directory: VOCROOT, which holds the folder of the split.
        split: such as VOC2007TEST.
        image_set: the list in ImageSets/Main/ whose images are scored.
        pred_dir: the folder of results_{class_id}.txt.
        labels_file: one class name a line; by default labels.txt in `pred_dir` or the folder above it, and
            the 20 VOC classes if there is none.
        output_directory: by default eval_output/ in `pred_dir`.
        use_07_metric: as in `evaluate`.
        iou_threshold: as in `evaluate`.

    Returns:
        What the JSON file holds: mAP, and AP and counts of each class.

    Raises:
        ValueError: a setting or a file is wrong; the message is for the user.
        FileNotFoundError: a file or folder is missing; so is this one.
    """
    class_names = _find_class_names(pred_dir, labels_file)
    ground_truth = _read_ground_truth(dataset_directory, split, image_set)
    detections, warnings = _read_detections(pred_dir, class_names)
    result = evaluate(detections, ground_truth, class_names, iou_threshold, use_07_metric)
    for warning in (*warnings, *result.warnings):
        print(f"warning: {warning}", file=sys.stderr)
    print("\n".join(format_report(result)))
    figures = {
        "split": split,
        "image_set": image_set,
        "images": len(ground_truth),
        "metric": "11-point" if use_07_metric else "area",
        "iou_threshold": iou_threshold,
        "mAP": result.mean_ap,
        "classes": {name: asdict(score) for name, score in result.classes.items()},
        "warnings": [*warnings, *result.warnings],
    }
    folder = Path(output_directory or Path(pred_dir) / "eval_output")
    labels.write_whole(folder / "voc_eval.json", json.dumps(figures, indent=1) + "\n")
    scores = {name: (score.ap, score.precision_at_recall) for name, score in result.classes.items()}
    draw_precision_recall(
        {name: (ap, precision) for name, (ap, precision) in scores.items() if ap is not None and precision},
        folder / "precision_recall.png",
    )
    return figures


def _find_class_names(pred_dir: str | Path, labels_file: str | Path | None) -> tuple[str, ...]:
    if labels_file:
        return labels.read_labels(labels_file)
    for folder in (Path(pred_dir), Path(pred_dir).resolve().parent):
        if (folder / "labels.txt").is_file():
            return labels.read_labels(folder / "labels.txt")
    return labels.VOC_CLASSES


def _read_ground_truth(dataset_directory: str | Path, split: str, image_set: str) -> list[Annotation]:
    if not dataset_directory:
        raise ValueError("--dataset_directory is not set: give the folder that holds VOC2007TEST or another split")
    split_dir = Path(dataset_directory) / split
    if not split_dir.is_dir():
        raise FileNotFoundError(f"{split_dir} does not exist: check --dataset_directory and --split")
    image_ids = voc.read_image_set(split_dir, image_set)
    return [voc.read_annotation(voc.annotation_path(split_dir, image_id)) for image_id in image_ids]


def _read_detections(pred_dir: str | Path, class_names: Sequence[str]) -> tuple[dict[int, voc.Detections], list[str]]:
    there = voc.results_class_ids(pred_dir)
    if not there:
        raise FileNotFoundError(f"--pred_dir {pred_dir} holds no results_1.txt or other: run eval_ssd.py first")
    if there[0] < 1 or there[-1] > len(class_names):
        wrong = there[0] if there[0] < 1 else there[-1]
        raise ValueError(
            f"{voc.results_path(pred_dir, wrong)} is of class id {wrong}, but the labels have ids 1 to "
            f"{len(class_names)}: set --labels_file to the labels.txt of the data set"
        )
    missing = [name for class_id, name in enumerate(class_names, start=1) if class_id not in set(there)]
    warnings = [f"There is no results file for {', '.join(missing)}."] if missing else []
    return {class_id: voc.read_results(voc.results_path(pred_dir, class_id)) for class_id in there}, warnings


def main() -> None:
    """Read the flags and score."""
    values = flags.FLAGS
    run(
        dataset_directory=values.dataset_directory,
        split=values.split,
        image_set=values.image_set,
        pred_dir=values.pred_dir,
        labels_file=values.labels_file,
        output_directory=values.output_directory,
        use_07_metric=values.use_07_metric,
        iou_threshold=values.iou_threshold,
    )


if __name__ == "__main__":
    runtime.run(main, flags.define_voc_eval)

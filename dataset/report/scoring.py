"""Scores a folder of results files against annotations, and writes the figures."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from dataset.report.page import write_report
from dataset.scores import voc_results
from dataset.scores.average_precision import (
    ELEVEN_RECALLS,
    evaluate,
    format_report,
    precision_at,
)
from dataset.sources import labels, voc
from dataset.sources.annotations import Annotation
from dataset.sources.pictures import PictureError, read_picture
from utility.config.settings import LABELS_FILE
from utility.drawing.detections import cut_to_length
from utility.errors import UserError
from utility.files.text_files import whole_file, write_whole

_COLUMNS = 5  # of precision_recall.png
_MOST_PLOTS = 100  # COCO has 80 classes; more than 1300 would exceed matplotlib's largest picture
_PLOT_INCHES = (2.2, 2.0)  # width, height of the plot of one class
_MARGIN_INCHES = 0.5  # around the plots


class ImageSet(NamedTuple):
    """The annotated images to score: those listed in {dataset_directory}/{split}/ImageSets/Main/{image_set}.txt.

    Of a split without image sets, all pictures, as the converter takes them.
    """

    dataset_directory: str | Path
    split: str = "VOC2007TEST"
    image_set: str = "test"

    def annotations(self) -> list[Annotation]:
        """Read them; a missing file or folder is an OSError, a bad one a UserError."""
        split_dir = Path(self.dataset_directory) / self.split
        if not split_dir.is_dir():
            raise FileNotFoundError(f"{split_dir} does not exist: check --dataset_directory and --split")
        if not voc.has_image_sets(split_dir):
            whole = voc.read_split(Path(self.dataset_directory), [self.split], self.image_set, skip_bad=False)
            return [source.annotation for source in whole.sources]
        ids = voc.read_image_set(split_dir, self.image_set)
        read = (voc.read_annotation(voc.annotation_path(split_dir, image_id)) for image_id in ids)
        return [replace(annotation, image_id=image_id) for annotation, image_id in zip(read, ids, strict=True)]

    def pictures(self, annotations: Sequence[Annotation]) -> dict[str, bytes]:
        """Return their picture files by image id, as JPEGs; those that are missing or broken are left out."""
        split_dir = Path(self.dataset_directory) / self.split
        whole_set = not voc.has_image_sets(split_dir)
        by_xml = dict(voc.pair_files(split_dir)) if whole_set else {}
        by_id = voc.index_images(split_dir) if not whole_set and (split_dir / "JPEGImages").is_dir() else {}
        found = {}
        for annotation in annotations:
            path = by_xml.get(annotation.path) or by_id.get(annotation.image_id)
            with contextlib.suppress(PictureError):
                if path:
                    found[annotation.image_id] = read_picture(path, (annotation.height, annotation.width)).encoded
        return found


def score_results(
    images: ImageSet,
    pred_dir: str | Path,
    *,
    labels_file: str | Path | None = None,
    output_directory: str | Path | None = None,
    use_07_metric: bool = True,
    iou_threshold: float = 0.5,
) -> dict[str, Any]:
    """Score the results files in a folder as `evaluate` does, print the figures, and write them and the report.

    Class names are those of `labels_file`, or of labels.txt in `pred_dir` or the folder above it, or VOC's. Written are
    voc_eval.json, whose contents are returned, precision_recall.png and report.html, to `output_directory`, by default
    eval_output/ in `pred_dir`. A setting or file that is wrong is a UserError, one that is missing an OSError.
    """
    beside = [folder / LABELS_FILE for folder in (Path(pred_dir), Path(pred_dir).resolve().parent)]
    labels_file = labels_file or next((path for path in beside if path.is_file()), None)
    class_names = labels.read_labels(labels_file) if labels_file else labels.VOC_CLASSES
    annotations = images.annotations()
    class_ids = voc_results.results_class_ids(pred_dir)
    if not class_ids:
        raise FileNotFoundError(
            f"--pred_dir {pred_dir} holds no results files (results_1.txt, ...): run eval_ssd.py first"
        )
    if wrong := [class_id for class_id in class_ids if not 1 <= class_id <= len(class_names)]:
        raise UserError(
            f"{voc_results.results_path(pred_dir, wrong[-1])} is of class id {wrong[-1]}, but the labels have ids 1 to "
            f"{len(class_names)}: set --labels_file to the labels.txt of the data set"
        )
    detections = {i: voc_results.read_results(voc_results.results_path(pred_dir, i)) for i in class_ids}
    result = evaluate(detections, annotations, class_names, iou_threshold, use_07_metric)
    missing = [name for class_id, name in enumerate(class_names, start=1) if class_id not in class_ids]
    all_warnings = [f"There is no results file for {', '.join(missing)}."] if missing else []
    all_warnings += result.warnings
    for warning in all_warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print("\n".join(format_report(result)))
    classes = {}
    for name, score in result.classes.items():
        precision = precision_at(score.true_positive[~score.ignored], score.ground_truth, ELEVEN_RECALLS).tolist()
        classes[name] = {
            "ap": score.ap,
            "ground_truth": score.ground_truth,
            "difficult": score.difficult,
            "detections": len(score.scores),
            "true_positives": int(score.true_positive.sum()),
            "ignored": int(score.ignored.sum()),
            "precision_at_recall": precision if score.ground_truth else None,  # of at least 0, .1, ..., 1
        }
    figures = {
        "split": images.split,
        "image_set": images.image_set,
        "images": len(annotations),
        "metric": "11-point" if result.use_07_metric else "area",
        "iou_threshold": result.iou_threshold,
        "mAP": result.mean_ap,
        "classes": classes,
        "warnings": all_warnings,
    }
    folder = Path(output_directory or Path(pred_dir) / "eval_output")
    write_whole(folder / "voc_eval.json", json.dumps(figures, indent=1) + "\n")
    _draw_precision_recall(classes, folder / "precision_recall.png")
    write_report(folder, annotations, result, images.pictures)
    return figures


def _draw_precision_recall(classes: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Write a PNG with a small precision-recall plot for each of the first 100 classes with ground truth."""
    from matplotlib.figure import Figure  # noqa: PLC0415 (takes half a second; pyplot takes another)

    scored = [(name, of_class) for name, of_class in classes.items() if of_class["ground_truth"]]
    drawn = scored[:_MOST_PLOTS]
    columns = min(_COLUMNS, len(drawn))
    rows = math.ceil(len(drawn) / columns)
    width, height = columns * _PLOT_INCHES[0] + 2 * _MARGIN_INCHES, rows * _PLOT_INCHES[1] + 2 * _MARGIN_INCHES
    left, bottom = _MARGIN_INCHES / width, _MARGIN_INCHES / height  # fixed: a layout engine takes seconds
    room = {"wspace": 0.15, "hspace": 0.3, "left": left, "bottom": bottom, "right": 1 - left, "top": 1 - bottom}
    figure = Figure((width, height))
    plots = figure.subplots(rows, columns, squeeze=False, gridspec_kw=room).ravel()
    recall = [point / 10 for point in range(11)]
    for plot, (name, of_class) in zip(plots, drawn, strict=False):
        plot.step(recall, of_class["precision_at_recall"], where="pre")
        plot.fill_between(recall, of_class["precision_at_recall"], step="pre", alpha=0.2)
        # without parse_math, "$x$" in a name is no formula
        plot.set_title(f"{cut_to_length(name, 24)} {of_class['ap']:.3f}", fontsize=9, parse_math=False)
        plot.tick_params(labelsize=8)
        plot.set(xlim=(0, 1), ylim=(0, 1.05), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        plot.label_outer()  # shared axes would look the same, but every plot would set those of all others
    for plot in plots[len(drawn) :]:
        plot.set_axis_off()
    left_out = f"; the first {len(drawn)} of {len(scored)} classes" if len(drawn) < len(scored) else ""
    figure.supxlabel(f"recall{left_out}", fontsize=9, y=0.1 / height)
    figure.supylabel("precision", fontsize=9, x=0.08 / width)
    with whole_file(path) as unfinished, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a letter without a glyph becomes a box
        figure.savefig(unfinished, format="png", dpi=120)

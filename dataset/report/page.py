"""The page report.html: what a detector gets right and wrong, complete in one file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dataset.analysis.costly_images import costliest_images
from dataset.analysis.judging import Judged, judge
from dataset.report import sections
from dataset.report.error_pictures import draw_errors
from dataset.report.markup import Markup, element, text
from dataset.scores.average_precision import EvaluationResult, area_under_curve, eleven_point_average
from dataset.scores.voc_results import Detections
from dataset.sources.annotations import Annotation
from utility.files.text_files import write_whole

REPORT_NAME = "report.html"

# of some images: the picture files by image id, without those that cannot be found
FindPictures = Callable[[Sequence[Annotation]], Mapping[str, bytes]]

_STYLE = """
:root{color-scheme:light}
body{font:15px/1.5 system-ui,sans-serif;max-width:1160px;margin:0 auto;padding:0 14px 40px;color:#222;background:#fff}
h1{font-size:1.5em;margin:.8em 0 .2em}h2{font-size:1.15em;margin:2em 0 .3em;border-bottom:1px solid #ddd}
p{max-width:48em;margin:.4em 0}.scroll{overflow-x:auto;max-width:100%}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.6em 0;font-size:14px}
th,td{padding:2px 9px;text-align:right;border-bottom:1px solid #eee}
th{font-weight:600}tbody th,thead th:first-child{text-align:left;position:sticky;left:0;background:#fff}
tbody th{font-weight:400;max-width:16em;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.bar{background:linear-gradient(#bcd9f5,#bcd9f5) no-repeat left;min-width:6.5em}
.matrix td{padding:2px 5px;min-width:1.6em;border:1px solid #eee}
.matrix thead th:not(:first-child) span{writing-mode:vertical-rl;transform:rotate(180deg);max-height:11em;
overflow:hidden;white-space:nowrap;font-weight:400}
.cards,.pictures{display:grid;gap:10px;grid-template-columns:repeat(auto-fill,minmax(min(165px,46%),1fr))}
.pictures{grid-template-columns:repeat(auto-fill,minmax(min(340px,100%),1fr));gap:18px}
figure{margin:0;min-width:0}figcaption{font-size:13px;overflow-wrap:anywhere}
figcaption ul{margin:.2em 0;padding-left:1.2em}img{max-width:100%;height:auto;display:block}
svg{width:100%;display:block}svg text{font-size:10px;fill:#555}
polyline{fill:none;stroke:#1668b8;stroke-width:1.6;stroke-linejoin:round}
.frame{fill:none;stroke:#ccc}.mark{stroke:#d5502a;stroke-dasharray:3 2}
.key{display:inline-block;width:.9em;height:.9em;margin-right:.3em;vertical-align:-.1em}
"""


def write_report(
    folder: str | Path,
    detections: Mapping[int, Detections],
    annotations: Sequence[Annotation],
    result: EvaluationResult,
    find_pictures: FindPictures,
) -> Path:
    """Judge detections as `evaluate` scored them, and write report.html, whole or not at all; return its path.

    Args:
        folder: for the page.
        detections: by class id, as `evaluate` had them; each class is asked for once.
        annotations: of the images, as `evaluate` had them.
        result: what `evaluate` returned.
        find_pictures: finds the files of the few pictures that the page shows.
    """
    judged = judge(detections, annotations, tuple(result.classes), result.iou_threshold)
    path = Path(folder) / REPORT_NAME
    write_whole(path, page(judged, result, find_pictures))
    return path


def page(judged: Judged, result: EvaluationResult, find_pictures: FindPictures) -> str:
    """Return the page as HTML."""
    average = eleven_point_average if result.use_07_metric else area_under_curve
    images = costliest_images(judged)
    drawn = draw_errors(images, judged.class_names, find_pictures([image.annotation for image in images]))
    body = [
        element("h1", f"mAP {result.mean_ap:.4f}"),
        _summary(judged, result),
        sections.classes(result),
        sections.precision_over_recall(judged, result),
        *sections.thresholds_and_confusion(judged),
        sections.sizes(judged, average),
        sections.error_kinds(judged, average),
        sections.costly_images(images, judged.class_names, drawn),
    ]
    title = text(f"Detections: mAP {result.mean_ap:.4f}")
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    whole = "\n".join(body)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>{head}\n<title>{title}</title>\n<style>{_STYLE}</style></head>\n'
        f"<body>\n{whole}\n</body>\n</html>\n"
    )


def _summary(judged: Judged, result: EvaluationResult) -> Markup:
    metric = "11-point interpolation (VOC2007)" if result.use_07_metric else "area under the curve (VOC2010)"
    scores = result.classes.values()
    with_objects = sum(score.ap is not None for score in scores)
    objects, difficult, detections = (
        sum(getattr(score, name) for score in scores) for name in ("ground_truth", "difficult", "detections")
    )
    line = (
        f"The mean of {with_objects} classes, {metric}, IoU of at least {result.iou_threshold:g}: "
        f"{len(judged.annotations)} images, {objects} objects, {difficult} difficult ones that do not count, "
        f"{detections} detections."
    )
    warnings = [element("p", element("b", "Warning: "), warning) for warning in result.warnings]
    return element("div", element("p", line), *warnings)

"""The page report.html: what a detector gets right and wrong, complete in one file."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dataset.report.analysis import (
    KINDS,
    SIZES,
    Average,
    CostlyImage,
    F1Curves,
    Judged,
    ap_by_size,
    confusion_matrix,
    costliest_images,
    error_costs,
    f1_curves,
    judge,
)
from dataset.scores.average_precision import EvaluationResult, area_under_curve, eleven_point_average, precision_at
from dataset.sources.annotations import Annotation
from utility.drawing.detections import Mark, cut_to_length, draw_marks
from utility.files.text_files import write_whole

_MOST_CURVES = 100  # classes
_MOST_OF_MATRIX = 40  # classes
_MOST_CONFUSIONS = 40  # rows of the list that stands for a larger matrix
_LONGEST_NAME = 40  # characters
_LONGER_SIDE = 520  # pixels of a drawn picture
_QUALITY = 80
_TRUTH, _NOT_FOUND, _WRONG = (30, 150, 60), (40, 90, 230), (220, 50, 30)  # colours
_RECALLS = np.linspace(0, 1, 101)
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
    annotations: Sequence[Annotation],
    result: EvaluationResult,
    find_pictures: Callable[[Sequence[Annotation]], Mapping[str, bytes]],
) -> Path:
    """Write report.html, whole or not at all; return its path.

    The annotations are those of `evaluate`. `find_pictures` returns the picture files of some images by image id,
    without those that cannot be found.
    """
    judged = judge(result, annotations)
    average = eleven_point_average if result.use_07_metric else area_under_curve
    f1 = f1_curves(judged)
    sections = [
        f"<h1>mAP {result.mean_ap:.4f}</h1>",
        _class_scores(result, len(annotations)),
        _precision_over_recall(judged),
        _thresholds(judged, f1),
        _confusion(judged, f1, result.iou_threshold),
        _sizes(judged, average),
        _error_kinds(judged, average),
        _costly_images(costliest_images(judged), judged.class_names, find_pictures, result.truth.pixel_extent),
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Detections: mAP {result.mean_ap:.4f}</title>\n<style>{_STYLE}</style>"
    )
    body = "\n".join(sections)
    path = Path(folder) / "report.html"
    write_whole(path, f'<!DOCTYPE html>\n<html lang="en">\n<head>{head}</head>\n<body>\n{body}\n</body>\n</html>\n')
    return path


# The sections of the page. Names of classes and images are the user's: `_name` and `escape` make HTML of them.


def _class_scores(result: EvaluationResult, images: int) -> str:
    metric = "11-point interpolation (VOC2007)" if result.use_07_metric else "area under the curve (VOC2010)"
    warnings = "".join(f"<p><b>Warning: </b>{escape(warning)}</p>" for warning in result.warnings)
    rows: list[tuple[Any, ...]] = [
        (_name(name), _bar(s.ap, s.ap), s.ground_truth, s.difficult, len(s.scores), s.true_positive.sum())
        for name, s in result.classes.items()
    ]
    objects, difficult, detections = (sum(row[column] for row in rows) for column in (2, 3, 4))
    summary = (
        f"<div><p>The mean of {sum(s.ap is not None for s in result.classes.values())} classes, {metric}, IoU of at "
        f"least {result.iou_threshold:g}: {images} images, {objects} objects, {difficult} difficult ones that do not "
        f"count, {detections} detections.</p>{warnings}</div>"
    )
    table = _table(("class", "AP", "objects", "difficult", "detections", "right"), rows)
    return f"{summary}\n{_section('Average precision by class', table)}"


def _precision_over_recall(judged: Judged) -> str:
    figures = []
    for found in judged.with_objects():
        if found.class_id <= _MOST_CURVES:
            title = f"{_name(judged.class_names[found.class_id - 1])} {found.ap:.3f}"
            precision = precision_at(found.counted(), found.ground_truth, _RECALLS)
            figures.append(_curve(title, _RECALLS, precision, "recall", "precision"))
    note = "The best precision at this recall or a higher one; beside the name, the average precision."
    return _section(
        "Precision over recall", f'<p>{note}{_first_only(judged)}</p><div class="cards">{"".join(figures)}</div>'
    )


def _thresholds(judged: Judged, f1: F1Curves) -> str:
    figures, rows = [], []
    for class_id, values in f1.curves.items():
        name, best = _name(judged.class_names[class_id - 1]), f1.best.get(class_id)
        # rounded down, so that a threshold of this value keeps the detection
        score = f"{np.floor(best.score * 1000) / 1000:.3f}" if best else None
        if class_id <= _MOST_CURVES:
            title = f"{name} {best.f1:.3f} at {score}" if best else f"{name} 0"
            figures.append(_curve(title, f1.scores, values, "score", "F1", best.score if best else None))
        rows.append((name, score, best.f1, best.precision, best.recall) if best else (name, *[None] * 4))
    advice = "No detection is right, so no threshold is best."
    if f1.mean is not None and f1.best_for_all is not None:
        figures.insert(0, _curve("mean of the classes", f1.scores, f1.mean, "score", "F1", f1.best_for_all))
        advice = (
            f"With one threshold for all classes, F1 is best on average ({f1.mean.max():.3f}) at "
            f"--select_threshold={f1.best_for_all:.3f}; the table has the score that is best for each class."
        )
    note = (
        "F1 is the harmonic mean of precision and recall. A lower threshold finds more, a higher one is wrong less"
        " often; for average precision itself, keep the threshold low."
    )
    table = _table(("class", "best score", "F1", "precision", "recall"), rows)
    text = f"<p>{note} <b>{advice}</b>{_first_only(judged)}</p>"
    return _section("F1 over the score", f'{text}<div class="cards">{"".join(figures)}</div>{table}')


def _first_only(judged: Judged) -> str:
    number = len(judged.class_names)
    return f" Drawn are the first {_MOST_CURVES} of {number} classes." if number > _MOST_CURVES else ""


def _confusion(judged: Judged, f1: F1Curves, iou_threshold: float) -> str:
    matrix = confusion_matrix(judged, {class_id: best.score for class_id, best in f1.best.items()})
    note = (
        f"Detections with at least the best-F1 score of their class, at an IoU of at least {iou_threshold:g}."
        " A row is what an object is, a column what it was taken for; the last column counts objects without a"
        " detection, the last row detections of no object, or of one that has its detection already. Difficult objects"
        " do not count."
    )
    names = [*map(_name, judged.class_names)]
    if len(names) <= _MOST_OF_MATRIX:
        names.append("<i>background</i>")
        order = [*range(1, len(matrix)), 0]
        rows: list[Sequence[Any]] = []
        for name, row in zip(names, order, strict=True):
            cells = [name]
            for column in order:
                share = matrix[row, column] / max(int(matrix[row].sum()), 1)
                hue = "22,104,184" if column == row else "213,80,42"
                style = f' style="background:rgba({hue},{0.75 * share:.2f})"' if share else ""
                cells.append(f"<td{style}>{int(matrix[row, column]) or ''}</td>")
            rows.append(cells)
        shown = _table(("object \\ detection", *names), rows, "matrix")
    else:
        names.insert(0, "background")
        np.fill_diagonal(matrix, 0)
        frequent = [i for i in np.argsort(-matrix, axis=None, kind="stable")[:_MOST_CONFUSIONS] if matrix.flat[i]]
        rows = [(names[i // len(names)], names[i % len(names)], int(matrix.flat[i])) for i in frequent]
        table = _table(("object", "detection", "number"), rows)
        shown = f"<div><p>Of {len(names) - 1} classes, the most frequent confusions.</p>{table}</div>"
    return _section("Confusion matrix", f"<p>{note}</p>{shown}")


def _sizes(judged: Judged, average: Average) -> str:
    groups = ap_by_size(judged, average).values()
    rows: list[list[Any]] = [[_name(name)] for name in judged.class_names] + [["<b>mean AP, all objects</b>"]]
    for group in groups:
        for row, (objects, ap) in zip(rows[:-1], group, strict=True):
            row += [ap, objects]
        scores = [ap for _, ap in group if ap is not None]
        rows[-1] += [sum(scores) / len(scores) if scores else None, sum(objects for objects, _ in group)]
    head = ("class", *(cell for group in SIZES for cell in (f"AP {group}", "objects")))
    note = (
        "By the area of the box, with COCO's limits: small below 32² pixels, medium below 96², large from there on."
        " Objects of other sizes do not count, nor do wrong detections of other sizes."
    )
    return _section("Average precision by object size", f"<p>{escape(note)}</p>{_table(head, rows)}")


def _error_kinds(judged: Judged, average: Average) -> str:
    costs = error_costs(judged, average)
    most = max(cost.cost for cost in costs) or 1
    rows = [(cost.kind, _bar(cost.cost / most, cost.cost), cost.number) for cost in costs]
    meanings = "".join(f"<li><b>{kind}</b>: {meaning}</li>" for kind, meaning in KINDS.items())
    note = (
        "As TIDE counts them (arXiv 2008.08115): the rise of mAP if this kind alone were mended. The costs do not add"
        " up to what is missing from 1, because one error can hide behind another."
    )
    table = _table(("kind", "costs mAP", "number"), rows)
    return _section("Kinds of error", f"<p>{note}</p>{table}<ul>{meanings}</ul>")


def _costly_images(
    images: Sequence[CostlyImage], class_names: Sequence[str], find_pictures: Callable, pixel_extent: float
) -> str:
    files = find_pictures([image.annotation for image in images])
    if not images:
        return _section("Costliest pictures", "<p>There is no error in any picture.</p>")
    figures, without_picture = [], 0
    for image in images:
        name = escape(image.annotation.image_id)
        jpeg = _drawn(image, class_names, files.get(image.annotation.image_id), pixel_extent)
        picture = ""
        if jpeg is None:
            without_picture += 1
        else:
            picture = f'<img src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}" alt="{name}">'
        errors = ""
        for error in image.errors:
            score = "" if error.score is None else f" {error.score:.2f}"
            errors += f"<li>{_name(class_names[error.class_id - 1])}{score}: {error.kind}, {error.cost:.4f}</li>"
        caption = f"<figcaption><b>{name}</b>: costs {image.cost:.4f}<ul>{errors}</ul></figcaption>"
        figures.append(f"<figure>{picture}{caption}</figure>")
    note = (
        f"The {len(images)} pictures whose errors cost most: each wrong detection by what it takes from the precision"
        " of those behind it, each object not found by its share of the recall. An object is missed if"
        " no detection is near it, and only not found if one is that has the wrong class or place. "
    )
    if without_picture:
        note += f"The files of {without_picture} of these pictures were not found, so only their errors are listed. "
    keys = [(_TRUTH, "object"), (_NOT_FOUND, "object not found"), (_WRONG, "wrong detection")]
    legend = "".join(f'<span class="key" style="background:rgb{colour}"></span>{name}&emsp;' for colour, name in keys)
    pictures = f'<div class="pictures">{"".join(figures)}</div>'
    return _section("Costliest pictures", f"<p>{note}</p><p>{legend}</p>{pictures}")


def _drawn(image: CostlyImage, class_names: Sequence[str], file: bytes | None, pixel_extent: float) -> bytes | None:
    """Return a picture with its errors as JPEG; None if its file is missing or cannot be decoded."""
    if file is None:
        return None
    try:
        with Image.open(io.BytesIO(file)) as opened:
            picture = opened.convert("RGB")
    except Exception:  # a broken file makes Pillow raise anything; the page says what is missing
        return None
    # a picture of a record may be smaller than the one that was annotated
    size = np.array([image.annotation.height or picture.height, image.annotation.width or picture.width])
    picture.thumbnail((_LONGER_SIDE, _LONGER_SIDE))
    scale = np.tile([picture.height, picture.width] / size, 2)
    rows = []
    for error in image.errors:
        name = class_names[error.class_id - 1]
        look = (_NOT_FOUND, name) if error.score is None else (_WRONG, f"{name} {error.score:.2f}")
        rows.append((error.box_yxyx_px, *look))
    not_found = {error.box_yxyx_px for error in image.errors if error.score is None}
    rows += [(box, _TRUTH, class_names[class_id - 1]) for class_id, box in image.truth if box not in not_found]
    # of inclusive pixels from 1 on, the upper ends are edges and the lower ones are one past them
    past = np.array([pixel_extent, pixel_extent, 0, 0])
    marks = [Mark((np.array(box) - past) * scale + past, colour, label) for box, colour, label in rows]
    buffer = io.BytesIO()
    draw_marks(picture, marks, pixel_extent).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


# What the sections are made of: names, tables, bars, and curves as SVG.


def _name(name: str) -> str:
    return escape(cut_to_length(name, _LONGEST_NAME))


def _section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>{body}</section>"


def _table(head: Iterable[str], rows: Iterable[Sequence[Any]], kind: str = "") -> str:
    """Return a table that scrolls where the window is narrow; the first cell of a row names it. Texts are HTML."""
    top = "".join(f'<th scope="col"><span>{name}</span></th>' for name in head)
    body = "".join(f'<tr><th scope="row">{row[0]}</th>{"".join(map(_cell, row[1:]))}\n</tr>' for row in rows)
    table = f'<table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="scroll">{table}</div>'


def _cell(value: Any) -> str:
    """Return a cell: numbers with three decimals, "–" for None; what is one already stays."""
    if isinstance(value, str) and value.startswith("<td"):
        return value
    return f"<td>{'–' if value is None else f'{value:.3f}' if isinstance(value, float) else value}</td>"


def _bar(fraction: float | None, value: float | None) -> str:
    """Return a cell with a bar of a length in [0, 1] behind a number."""
    width = 100 * min(max(fraction or 0.0, 0.0), 1.0)
    return _cell(value).replace("<td", f'<td class="bar" style="background-size:{width:.1f}% 100%"')


def _curve(title: str, x: np.ndarray, y: np.ndarray, x_name: str, y_name: str, mark: float | None = None) -> str:
    """Return a figure of a curve y [P] in [0, 1] over x [P], rising, with a vertical line at `mark`."""
    left, right, top, base = 22, 176, 4, 106  # units of the SVG
    low, high = float(x[0]), float(x[-1])
    columns = left + (x - low) / (high - low) * (right - left)
    points = " ".join(f"{a:.0f},{b:.1f}" for a, b in zip(columns, top + (1 - y) * (base - top), strict=True))
    lines = [f'<path class="frame" d="M{left} {top}V{base}H{right}M{left} {(top + base) / 2}H{right}"/>']
    if mark is not None:
        at = left + (mark - low) / (high - low) * (right - left)
        lines.append(f'<path class="mark" d="M{at:.1f} {top}V{base}"/>')
    lines.append(f'<polyline points="{points}"/>')
    labels = [(left - 4, top + 6, "end", "1"), (left - 4, base, "end", "0"), (left, base + 13, "start", f"{low:g}")]
    labels += [(right, base + 13, "end", f"{high:g}"), ((left + right) // 2, base + 13, "middle", x_name)]
    lines += [f'<text x="{a}" y="{b}" text-anchor="{anchor}">{label}</text>' for a, b, anchor, label in labels]
    described = f'role="img" aria-label="{title}: {y_name} over {x_name}"'
    drawing = f'<svg viewBox="0 0 180 124" {described}>{"".join(lines)}</svg>'
    return f"<figure>{drawing}<figcaption>{title}</figcaption></figure>"

"""The page report.html: what a detector gets right and wrong, complete in one file."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from dataset.report.analysis import (
    BACKGROUND_IOU,
    SIZES,
    Average,
    CostlyImage,
    F1Curves,
    ImageError,
    Judged,
    ap_by_size,
    confusion_matrix,
    costliest_images,
    error_costs,
    f1_curves,
    judge,
    mean_ap,
)
from dataset.scores.average_precision import EvaluationResult, area_under_curve, eleven_point_average, precision_at
from dataset.scores.voc_results import Detections
from dataset.sources.annotations import Annotation
from utility.drawing.detections import Mark, cut_to_length, draw_marks
from utility.files.text_files import write_whole

# Pictures with their errors drawn, and where picture files are found.

_LONGER_SIDE = 520  # pixels of a drawn picture
_QUALITY = 80


class _Colours(NamedTuple):
    truth: tuple[int, int, int] = (30, 150, 60)
    not_found: tuple[int, int, int] = (40, 90, 230)
    wrong: tuple[int, int, int] = (220, 50, 30)


COLOURS = _Colours()


def draw_errors(
    images: Iterable[CostlyImage], class_names: Sequence[str], pictures: Mapping[str, bytes]
) -> dict[str, bytes]:
    """Return JPEGs by image id; a picture that is missing or cannot be decoded is left out."""
    drawn = {}
    for image in images:
        file = pictures.get(image.annotation.image_id)
        if file is not None:
            try:
                drawn[image.annotation.image_id] = _draw(image, class_names, file)
            except Exception:  # a broken file makes Pillow raise anything; the page says what is missing
                continue
    return drawn


def _draw(image: CostlyImage, class_names: Sequence[str], file: bytes) -> bytes:
    with Image.open(io.BytesIO(file)) as opened:
        picture = opened.convert("RGB")
    height, width = _annotated_size(image.annotation, picture)
    picture.thumbnail((_LONGER_SIDE, _LONGER_SIDE))
    missed = {error.box_yxyx_px for error in image.errors if error.score is None}
    rows = [(error.box_yxyx_px, *_label(error.score, class_names[error.class_id - 1])) for error in image.errors]
    rows += [(box, class_names[class_id - 1], COLOURS.truth) for class_id, box in image.truth if box not in missed]
    boxes, texts, colours = zip(*rows, strict=True)
    scale = np.array([picture.height / height, picture.width / width] * 2)
    # 1-based inclusive pixels, so that the upper ends are edges and the lower ones are one past them
    corners = (np.array(boxes) - [1, 1, 0, 0]) * scale + [1, 1, 0, 0]
    buffer = io.BytesIO()
    marks = [Mark(*each) for each in zip(corners, colours, texts, strict=True)]
    draw_marks(picture, marks).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _annotated_size(annotation: Annotation, picture: Image.Image) -> tuple[int, int]:
    """Return height and width that boxes are in; a picture of a record may be smaller."""
    if annotation.height and annotation.width:
        return annotation.height, annotation.width
    return picture.height, picture.width


def _label(score: float | None, name: str) -> tuple[str, tuple[int, int, int]]:
    return (name, COLOURS.not_found) if score is None else (f"{name} {score:.2f}", COLOURS.wrong)


# The parts that the page is made of: escaped text, tables, bars and curves as SVG.

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 180, 124, 22, 18  # units of an SVG, and the room of the numbers beside the axes


class Markup(str):
    """Text that is HTML already; all other text is escaped."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Return a value as HTML: numbers with three decimals, "–" for None."""
    if isinstance(value, Markup):
        return value
    if value is None:
        return Markup("–")
    return Markup(escape(f"{value:.3f}" if isinstance(value, float) else str(value)))


def element(tag: str, *parts: object, attributes: str = "") -> Markup:
    """Return an element; `attributes` are HTML, with what users named in it escaped."""
    return Markup(f"<{tag}{' ' if attributes else ''}{attributes}>{''.join(map(text, parts))}</{tag}>")


def section(title: str, *parts: object) -> Markup:
    """Return a section with its heading."""
    return element("section", element("h2", title), *parts)


def table(head: Sequence[object], rows: Iterable[Sequence[object]], kind: str = "") -> Markup:
    """Return a table that scrolls where the window is narrow; the first cell of a row names it."""
    top = element("tr", *(element("th", element("span", name), attributes='scope="col"') for name in head))
    body = (element("tr", element("th", row[0], attributes='scope="row"'), *map(_cell, row[1:]), "\n") for row in rows)
    whole = element("table", element("thead", top), element("tbody", *body), attributes=f'class="{kind}"')
    return element("div", whole, attributes='class="scroll"')


def _cell(value: object) -> Markup:
    return value if isinstance(value, Markup) and value.startswith("<td") else element("td", value)


def bar(fraction: float | None, label: object) -> Markup:
    """Return a cell with a bar of a length in [0, 1] behind a label."""
    width = 100 * min(max(fraction or 0.0, 0.0), 1.0)
    return element("td", label, attributes=f'class="bar" style="background-size:{width:.1f}% 100%"')


def shade(fraction: float, label: object, hue: str) -> Markup:
    """Return a cell that is darker the larger a fraction in [0, 1] is; `hue` is "r,g,b"."""
    return element("td", label, attributes=f'style="background:rgba({hue},{0.75 * fraction:.2f})"' if fraction else "")


def cards(items: Iterable[Markup]) -> Markup:
    """Return figures beside each other, as many in a row as the window holds."""
    return element("div", *items, attributes='class="cards"')


def curve(title: str, x: np.ndarray, y: np.ndarray, names: tuple[str, str], mark: float | None = None) -> Markup:
    """Return a figure of a curve y [P] in [0, 1] over x [P], rising, with a vertical line at `mark`."""
    low, high = float(x[0]), float(x[-1])
    across, up = _WIDTH - _LEFT - 4, _HEIGHT - _BOTTOM - 4
    columns = _LEFT + (x - low) / (high - low) * across
    points = " ".join(f"{a:.0f},{b:.1f}" for a, b in zip(columns, 4 + (1 - y) * up, strict=True))
    right, base = _LEFT + across, 4 + up
    lines = [f'<path class="frame" d="M{_LEFT} 4V{base}H{right}M{_LEFT} {4 + up / 2}H{right}"/>']
    if mark is not None:
        at = _LEFT + (mark - low) / (high - low) * across
        lines.append(f'<path class="mark" d="M{at:.1f} 4V{base}"/>')
    lines.append(f'<polyline points="{points}"/>')
    labels = [(_LEFT - 4, 10, "end", "1"), (_LEFT - 4, base, "end", "0"), (_LEFT, base + 13, "start", f"{low:g}")]
    labels += [(right, base + 13, "end", f"{high:g}"), ((_LEFT + right) // 2, base + 13, "middle", names[0])]
    lines += [f'<text x="{a}" y="{b}" text-anchor="{anchor}">{text(label)}</text>' for a, b, anchor, label in labels]
    described = escape(f"{title}: {names[1]} over {names[0]}")
    drawing = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{described}">{"".join(lines)}</svg>'
    return element("figure", Markup(drawing), element("figcaption", title))


# The sections of the page.

_MOST_CURVES = 100  # classes
_MOST_OF_MATRIX = 40  # classes
_MOST_CONFUSIONS = 40  # rows of the list that stands for a larger matrix
_LONGEST_NAME = 40  # characters
_RECALLS = np.linspace(0, 1, 101)
_KINDS = {
    "classification": "on an object, but of another class",
    "localisation": "the right class, but its box overlaps the object too little",
    "both": "another class, and too little overlap",
    "duplicate": "the object has a detection with a higher score already",
    "background": f"on nothing: no object with an IoU above {BACKGROUND_IOU:g}",
    "missed": "an object that no detection finds, not even with a wrong class or place",
}


def classes(result: EvaluationResult) -> Markup:
    """Return the AP of each class beside the numbers of objects."""
    rows = [
        (_short(name), bar(s.ap, s.ap), s.ground_truth, s.difficult, s.detections, s.true_positives)
        for name, s in result.classes.items()
    ]
    head = ("class", "AP", "objects", "difficult", "detections", "right")
    return section("Average precision by class", table(head, rows))


def precision_over_recall(judged: Judged, result: EvaluationResult) -> Markup:
    """Return a curve for each class with objects."""
    figures = []
    for found in judged.classes[:_MOST_CURVES]:
        positives = judged.truth.positives(found.class_id)
        if positives:
            name = judged.class_names[found.class_id - 1]
            precision = precision_at(found.counted(), positives, _RECALLS)
            title = f"{_short(name)} {result.classes[name].ap:.3f}"
            figures.append(curve(title, _RECALLS, precision, ("recall", "precision")))
    note = "The best precision at this recall or a higher one; beside the name, the average precision."
    return section("Precision over recall", element("p", note + _first_only(judged)), cards(figures))


def thresholds_and_confusion(judged: Judged) -> tuple[Markup, Markup]:
    """Return F1 over the score, and the confusions at the best scores."""
    f1 = f1_curves(judged)
    return _thresholds(judged, f1), _confusion(judged, f1)


def _thresholds(judged: Judged, f1: F1Curves) -> Markup:
    names = judged.class_names
    figures, rows = [], []
    for class_id, values in f1.curves.items():
        best = f1.best.get(class_id)
        if class_id <= _MOST_CURVES:
            title = _short(names[class_id - 1]) + (f" {best.f1:.3f} at {_rounded_down(best.score)}" if best else " 0")
            figures.append(curve(title, f1.scores, values, ("score", "F1"), best.score if best else None))
        figures_of_best = (_rounded_down(best.score), best.f1, best.precision, best.recall) if best else (None,) * 4
        rows.append((_short(names[class_id - 1]), *figures_of_best))
    if f1.mean is not None and f1.best_for_all is not None:
        figures.insert(0, curve("mean of the classes", f1.scores, f1.mean, ("score", "F1"), f1.best_for_all))
        advice = (
            f"With one threshold for all classes, F1 is best on average ({f1.mean.max():.3f}) at "
            f"--select_threshold={f1.best_for_all:.3f}; the table has the score that is best for each class."
        )
    else:
        advice = "No detection is right, so no threshold is best."
    note = (
        "F1 is the harmonic mean of precision and recall. A lower threshold finds more, a higher one is wrong less"
        " often; for average precision itself, keep the threshold low. "
    )
    head = ("class", "best score", "F1", "precision", "recall")
    paragraph = element("p", note, element("b", advice), _first_only(judged))
    return section("F1 over the score", paragraph, cards(figures), table(head, rows))


def _rounded_down(score: float) -> str:
    """Return a score so that a threshold of this value keeps the detection."""
    return f"{np.floor(score * 1000) / 1000:.3f}"


def _confusion(judged: Judged, f1: F1Curves) -> Markup:
    matrix = confusion_matrix(judged, {class_id: best.score for class_id, best in f1.best.items()})
    note = (
        f"Detections with at least the best-F1 score of their class, at an IoU of at least {judged.iou_threshold:g}."
        " A row is what an object is, a column what it was taken for; the last column counts objects without a"
        " detection, the last row detections of no object, or of one that has its detection already. Difficult objects"
        " do not count."
    )
    small = len(judged.class_names) <= _MOST_OF_MATRIX
    shown = _matrix(matrix, judged.class_names) if small else _confusions(matrix, judged.class_names)
    return section("Confusion matrix", element("p", note), shown)


def _matrix(matrix: np.ndarray, class_names: Sequence[str]) -> Markup:
    order = [*range(1, len(matrix)), 0]
    names = [*(_short(name) for name in class_names), Markup("<i>background</i>")]
    rows = []
    for name, row in zip(names, order, strict=True):
        total = max(int(matrix[row].sum()), 1)
        hues = ["22,104,184" if column == row else "213,80,42" for column in order]
        cells = [
            shade(matrix[row, column] / total, int(matrix[row, column]) or "", hue)
            for column, hue in zip(order, hues, strict=True)
        ]
        rows.append((name, *cells))
    return table((Markup("object \\ detection"), *names), rows, "matrix")


def _confusions(matrix: np.ndarray, class_names: Sequence[str]) -> Markup:
    names = ["background", *map(_short, class_names)]
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = [i for i in np.argsort(-wrong, axis=None, kind="stable")[:_MOST_CONFUSIONS].tolist() if wrong.flat[i]]
    rows = [(names[i // len(wrong)], names[i % len(wrong)], int(wrong.flat[i])) for i in order]
    note = f"Of {len(class_names)} classes, the most frequent confusions."
    return element("div", element("p", note), table(("object", "detection", "number"), rows))


def sizes(judged: Judged, average: Average) -> Markup:
    """Return the AP by the size of objects."""
    groups = ap_by_size(judged, average)
    rows: list[tuple[object, ...]] = []
    for class_id, name in enumerate(judged.class_names, start=1):
        cells = [cell for group in SIZES for cell in (groups[group][class_id].ap, groups[group][class_id].objects)]
        rows.append((_short(name), *cells))
    means = [
        cell for group in SIZES for cell in (mean_ap(groups[group]), sum(r.objects for r in groups[group].values()))
    ]
    rows.append((Markup("<b>mean AP, all objects</b>"), *means))
    head = ("class", *(cell for group in SIZES for cell in (f"AP {group}", "objects")))
    note = (
        "By the area of the box, with COCO's limits: small below 32² pixels, medium below 96², large from there on."
        " Objects of other sizes do not count, nor do wrong detections of other sizes."
    )
    return section("Average precision by object size", element("p", note), table(head, rows))


def error_kinds(judged: Judged, average: Average) -> Markup:
    """Return the kinds of error with what they cost."""
    costs = error_costs(judged, average)
    most = max((cost.cost for cost in costs), default=0) or 1
    rows = [(cost.kind, bar(cost.cost / most, cost.cost), cost.count) for cost in costs]
    meanings = [element("li", element("b", kind), f": {meaning}") for kind, meaning in _KINDS.items()]
    note = (
        "As TIDE counts them (arXiv 2008.08115): the rise of mAP if this kind alone were mended. The costs do not add"
        " up to what is missing from 1, because one error can hide behind another."
    )
    head = ("kind", "costs mAP", "number")
    return section("Kinds of error", element("p", note), table(head, rows), element("ul", *meanings))


def costly_images(images: Sequence[CostlyImage], class_names: Sequence[str], drawn: Mapping[str, bytes]) -> Markup:
    """Return the costliest images, drawn where the picture was found."""
    if not images:
        return section("Costliest pictures", element("p", "There is no error in any picture."))
    found = sum(image.annotation.image_id in drawn for image in images)
    note = (
        f"The {len(images)} pictures whose errors cost most: each wrong detection by what it takes from the precision"
        " of those behind it, each object not found by its share of the recall. An object is missed if"
        " no detection is near it, and only not found if one is that has the wrong class or place. "
    )
    if found < len(images):
        note += (
            f"The files of {len(images) - found} of these pictures were not found, so only their errors are listed. "
        )
    keys = [(COLOURS.truth, "object"), (COLOURS.not_found, "object not found"), (COLOURS.wrong, "wrong detection")]
    legend = [Markup(f'<span class="key" style="background:rgb{colour}"></span>{name}&emsp;') for colour, name in keys]
    figures = [_figure(image, class_names, drawn.get(image.annotation.image_id)) for image in images]
    body = element("div", *figures, attributes='class="pictures"')
    return section("Costliest pictures", element("p", note), element("p", *legend), body)


def _figure(image: CostlyImage, class_names: Sequence[str], jpeg: bytes | None) -> Markup:
    name = image.annotation.image_id
    picture = ""
    if jpeg is not None:
        data = base64.b64encode(jpeg).decode()
        picture = f'<img src="data:image/jpeg;base64,{data}" alt="{escape(name)}">'
    errors = [element("li", _line(error, class_names)) for error in image.errors]
    caption = element("figcaption", element("b", name), f": costs {image.cost:.4f}", element("ul", *errors))
    return element("figure", Markup(picture), caption)


def _line(error: ImageError, class_names: Sequence[str]) -> str:
    score = "" if error.score is None else f" {error.score:.2f}"
    return f"{_short(class_names[error.class_id - 1])}{score}: {error.kind}, {error.cost:.4f}"


def _short(name: str) -> str:
    return cut_to_length(name, _LONGEST_NAME)


def _first_only(judged: Judged) -> str:
    number = len(judged.class_names)
    return f" Drawn are the first {_MOST_CURVES} of {number} classes." if number > _MOST_CURVES else ""


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
        classes(result),
        precision_over_recall(judged, result),
        *thresholds_and_confusion(judged),
        sizes(judged, average),
        error_kinds(judged, average),
        costly_images(images, judged.class_names, drawn),
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

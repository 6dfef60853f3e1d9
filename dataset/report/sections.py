"""The sections of the page."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from dataset.analysis.confusion import confusion_matrix
from dataset.analysis.costly_images import CostlyImage, ImageError
from dataset.analysis.error_costs import Average, error_costs
from dataset.analysis.judging import BACKGROUND_IOU, Judged
from dataset.analysis.sizes import SIZES, ap_by_size, mean_ap
from dataset.analysis.thresholds import F1Curves, f1_curves
from dataset.report.error_pictures import COLOURS
from dataset.report.markup import Markup, bar, cards, curve, element, section, shade, table
from dataset.scores.average_precision import EvaluationResult, precision_at
from utility.drawing.names import cut_to_length

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

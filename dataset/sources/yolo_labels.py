"""The label files of YOLO: a line for each object, `class xc yc width height` in fractions of the picture.

A line of seven or more numbers is a polygon, `class x y x y x y ...`, as segmentation sets have it; its object is the
box around it, as for Ultralytics.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from dataset.sources.annotations import LabelledObject
from utility.files.text_files import finite_number, read_utf8, shortened

_MOST_BYTES = 50_000_000
_BEYOND = Decimal("0.00001")  # by which rounding may take a number out of [0, 1]
_ROUNDING_PX = Decimal("0.1")  # an edge that is out of the picture by less is on its border
_COUNTS = "class xc yc width height, or class and a polygon of three points or more"


def label_paths(picture: Path) -> tuple[Path, Path]:
    """Return where the labels of a picture may be: the last `/images/` of its path as `/labels/`, or else beside it."""
    before, images, after = str(picture.absolute()).rpartition("/images/")
    beside = picture.with_suffix(".txt")
    return (Path(f"{before}/labels/{after}").with_suffix(".txt") if images else beside), beside


def read_objects(
    path: Path, class_names: Sequence[str], size: tuple[int, int], *, keypoints: bool
) -> tuple[LabelledObject, ...]:
    """Return the objects of a label file; none if it is empty.

    The numbers are taken as the decimals that they are and multiplied by the size before anything is rounded: where
    they stand for whole pixels, the box has these. A pixel of a picture 500 wide is .002; with six decimals, as most
    tools write them, a picture of 375 rows keeps a pixel to .0004.

    Args:
        path: the label file.
        class_names: by the class ids of the file, which begin with 0.
        size: height and width of the upright picture in pixels.
        keypoints: the numbers after the box are points of a skeleton, as `kpt_shape` in data.yaml says.

    Raises:
        ValueError: the file is not UTF-8 or too large, or has a line of another length, with a text that is no number,
            a class id without a name, or numbers outside of [0, 1]; the message names file and line.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"{path} has more than {_MOST_BYTES // 1_000_000} MB: give a line for each object")
    lines = ((number, line.split()) for number, line in enumerate(read_utf8(path).split("\n"), start=1))
    return tuple(
        _read_object(fields[:5] if keypoints else fields, class_names, size, f"{path}, line {number}")
        for number, fields in lines
        if fields
    )


def _read_object(
    fields: Sequence[str], class_names: Sequence[str], size: tuple[int, int], where: str
) -> LabelledObject:
    if len(fields) != 5 and (len(fields) < 7 or len(fields) % 2 == 0):
        scored = "; a sixth may be a score, as of detections: leave it out" if len(fields) == 6 else ""
        raise ValueError(f"{where} has {len(fields)} numbers, not {_COUNTS}{scored}")
    broken = [field for field in fields if finite_number(field) is None]
    if broken:
        raise ValueError(f"{where}: '{shortened(broken[0])}' is no number: write {_COUNTS}")
    class_id, *numbers = map(Decimal, fields)
    if class_id != int(class_id) or not 0 <= class_id < len(class_names):
        raise ValueError(
            f"{where}: the class is {shortened(fields[0])}, but there are {len(class_names)} names, for 0 to "
            f"{len(class_names) - 1}: correct it, or add the names that are missing"
        )
    outside = [
        field for field, number in zip(fields[1:], numbers, strict=True) if not -_BEYOND <= number <= 1 + _BEYOND
    ]
    if outside:
        raise ValueError(
            f"{where}: {shortened(outside[0])} is not from 0 to 1: divide pixels by the width and height of the picture"
        )
    return LabelledObject(class_names[int(class_id)], _box_yxyx_px(numbers, size), difficult=False, truncated=False)


def _box_yxyx_px(numbers: Sequence[Decimal], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the box of xc, yc, width, height, or around a polygon."""
    if len(numbers) == 4:
        xc, yc, width, height = numbers
        fractions = (yc - height / 2, xc - width / 2, yc + height / 2, xc + width / 2)
    else:
        xs, ys = numbers[::2], numbers[1::2]
        fractions = (min(ys), min(xs), max(ys), max(xs))
    ymin, xmin, ymax, xmax = (
        float(_on_border(each * side, side)) for each, side in zip(fractions, size * 2, strict=True)
    )
    return ymin, xmin, ymax, xmax


def _on_border(edge_px: Decimal, side_px: int) -> Decimal:
    """Return an edge, on the border of the picture if it is a little outside."""
    inside = min(max(edge_px, Decimal(0)), Decimal(side_px))
    return inside if abs(edge_px - inside) <= _ROUNDING_PX else edge_px

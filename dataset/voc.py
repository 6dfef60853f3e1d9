"""PASCAL VOC on disk: annotations, image sets and images are read here; detections are written and read.

A split folder (VOC2007, VOC2012, VOC2007TEST) holds Annotations/, ImageSets/Main/ and JPEGImages/.
VOC counts pixels from 1 and both ends of a box are inside it; boxes keep those raw values here.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lxml import etree

from dataset.annotations import Annotation, LabelledObject
from dataset.labels import read_utf8, write_whole

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")

_RESULTS_NAME = re.compile(r"results_(\d+)\.txt")
_TRUE_WORDS = frozenset({"true", "yes"})
_FALSE_WORDS = frozenset({"", "false", "no", "unspecified"})
_PER_CLASS_MARKS = frozenset({"1", "-1", "0"})


class AnnotationError(ValueError):
    """An annotation that is missing or cannot be read; the message names the file and the object."""


@dataclass(frozen=True)
class Detections:
    """Detections of one class in any number of images, in the order of their file.

    `image_ids` is a str array [D]; `scores` float64 [D]; `boxes_yxyx_px` float64 [D, 4] in pixels, 1-based
    and inclusive. What is given is converted; lengths that differ are a ValueError.
    """

    image_ids: np.ndarray
    scores: np.ndarray
    boxes_yxyx_px: np.ndarray

    def __post_init__(self) -> None:
        image_ids = np.asarray(self.image_ids, dtype=np.str_)
        scores = np.asarray(self.scores, dtype=np.float64)
        boxes = np.asarray(self.boxes_yxyx_px, dtype=np.float64)
        boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
        if image_ids.ndim != 1 or scores.shape != image_ids.shape or boxes.shape != (len(image_ids), 4):
            shapes = f"{image_ids.shape}, {scores.shape}, {boxes.shape}"
            raise ValueError(f"image_ids [D], scores [D] and boxes [D, 4] have shapes {shapes}")
        for name, value in (("image_ids", image_ids), ("scores", scores), ("boxes_yxyx_px", boxes)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        """Return D."""
        return len(self.scores)


def read_annotation(path: str | Path) -> Annotation:
    """Read one VOC annotation; only direct children count, so the boxes of `<part>`s are left alone.

    `<difficult>`, `<truncated>` and `<size>` may be missing. A document type, and with it every entity, is
    refused: no annotation needs one, and one can make the parser read other files or fill the memory.

    Raises:
        AnnotationError: the file is missing, is not XML, has a document type, or has an object without a name
            or with a box coordinate that is missing or not a finite number.
    """
    path = Path(path)
    root = _parse_xml(path)
    size_element = root.find("size")
    size = {} if size_element is None else _texts(size_element)
    return Annotation(
        image_id=path.stem,
        path=path,
        height=_side_px(size, "height"),
        width=_side_px(size, "width"),
        objects=tuple(
            _read_object(element, f"{path}: object {number}")
            for number, element in enumerate(root.findall("object"), start=1)
        ),
    )


def _parse_xml(path: Path) -> Any:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AnnotationError(f"{path}: the annotation cannot be read: {error.strerror}") from error
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise AnnotationError(f"{path}: the annotation is not well-formed XML: {error.msg}") from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise AnnotationError(f"{path}: the annotation has a DOCTYPE or an entity, which is refused; remove it")
    if root.tag != "annotation":
        raise AnnotationError(f"{path}: not a VOC annotation: the root is <{root.tag}>, not <annotation>")
    return root


def _read_object(element: Any, where: str) -> LabelledObject:
    texts = _texts(element)
    name = texts.get("name", "").strip()
    if not name:
        raise AnnotationError(f"{where} has no <name>")
    where = f"{where} ({name})"
    box = element.find("bndbox")
    if box is None:
        raise AnnotationError(f"{where} has no <bndbox>")
    sides = _texts(box)
    ymin, xmin, ymax, xmax = (_coordinate_px(sides, side, where) for side in ("ymin", "xmin", "ymax", "xmax"))
    return LabelledObject(
        name=name,
        box_yxyx_px=(ymin, xmin, ymax, xmax),
        difficult=_read_mark(texts, "difficult", where),
        truncated=_read_mark(texts, "truncated", where),
    )


def _texts(element: Any) -> dict[str, str]:
    """Return the text of each direct child by its tag; of children with the same tag the first counts."""
    return {child.tag: child.text or "" for child in reversed(element)}


def _coordinate_px(sides: Mapping[str, str], side: str, where: str) -> float:
    if side not in sides:
        raise AnnotationError(f"{where}: <bndbox> has no <{side}>")
    value = _finite(sides[side])
    if value is None:
        raise AnnotationError(f"{where}: <{side}> is {sides[side].strip()!r}, not a finite number")
    return value


def _read_mark(texts: Mapping[str, str], tag: str, where: str) -> bool:
    """Return whether a 0/1 mark is set; missing means 0, and labelling tools also write words."""
    text = texts.get(tag, "").strip().lower()
    value = _finite(text)
    if value is not None:
        return value != 0
    if text in _TRUE_WORDS or text in _FALSE_WORDS:
        return text in _TRUE_WORDS
    raise AnnotationError(f"{where}: <{tag}> is {text!r}, neither 0 nor 1")


def _side_px(size: Mapping[str, str], tag: str) -> int:
    """Return a side of the image; 0 when it is not given, for the image itself is the better witness."""
    value = _finite(size.get(tag, ""))
    return int(value) if value is not None and value > 0 else 0


def _finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def annotation_path(split_dir: str | Path, image_id: str) -> Path:
    """Return where a split keeps the annotation of an image."""
    return Path(split_dir) / "Annotations" / f"{image_id}.xml"


def read_image_set(split_dir: str | Path, image_set: str) -> list[str]:
    """Return the image ids of ImageSets/Main/{image_set}.txt, in the order of the file.

    Of VOC's lists for one class ("000012 -1" on every line) the ids are returned, whatever the second column.

    Raises:
        FileNotFoundError: there is no such list; the message tells which there are.
        ValueError: the list is empty, or an id stands in it twice.
    """
    path = Path(split_dir) / "ImageSets" / "Main" / f"{image_set}.txt"
    if not path.is_file():
        there = ", ".join(sorted(other.stem for other in path.parent.glob("*.txt"))) or "none"
        raise FileNotFoundError(f"image set {path} does not exist; sets in that folder: {there}")
    lines = [line.strip() for line in read_utf8(path).split("\n")]
    ids = [line for line in lines if line]
    if not ids:
        raise ValueError(f"image set {path} is empty: it must hold one image id a line")
    if _is_per_class_list(split_dir, ids):
        ids = [line.rsplit(None, 1)[0] for line in ids]
    doubles = [image_id for image_id, count in Counter(ids).items() if count > 1]
    if doubles:
        raise ValueError(f"image set {path} holds {len(doubles)} ids more than once, the first is {doubles[0]!r}")
    return ids


def _is_per_class_list(split_dir: str | Path, lines: list[str]) -> bool:
    """Tell "000012 -1" from an id with a space such as "photo 1": then the whole line has an annotation."""
    fields = (line.rsplit(None, 1) for line in lines)
    marked = all(len(field) == 2 and field[1] in _PER_CLASS_MARKS for field in fields)
    return marked and not annotation_path(split_dir, lines[0]).is_file()


def index_images(split_dir: str | Path) -> dict[str, Path]:
    """Return the image file of each id in JPEGImages/: .jpg, .jpeg or .png in any case, sorted by id.

    An id is the file's name up to its last dot.

    Raises:
        FileNotFoundError: the split has no folder JPEGImages.
        ValueError: two files have the same id.
    """
    folder = Path(split_dir) / "JPEGImages"
    if not folder.is_dir():
        raise FileNotFoundError(f"image folder {folder} does not exist: a VOC split keeps its images there")
    images: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            if path.stem in images:
                raise ValueError(f"{images[path.stem]} and {path} have the same image id: remove one of them")
            images[path.stem] = path
    return images


def results_path(pred_dir: str | Path, class_id: int) -> Path:
    """Return the file that holds the detections of a class."""
    return Path(pred_dir) / f"results_{class_id}.txt"


def results_class_ids(pred_dir: str | Path) -> list[int]:
    """Return the class ids for which a folder has a results file, in ascending order; [] without a folder."""
    names = (path.name for path in Path(pred_dir).glob("results_*.txt"))
    return sorted(int(match[1]) for match in map(_RESULTS_NAME.fullmatch, names) if match)


def detections_by_class(images: Iterable[Mapping[str, Any]]) -> dict[int, Detections]:
    """Sort the detections of images by class, and bring them from parts of the image into pixels.

    Each image has `image_id` (bytes), `size` (height, width in pixels), `boxes_yxyx` float [D, 4] in [0, 1],
    `scores` [D] and `classes` int [D] from 1. Records hold raw VOC pixels over the size, so what a network
    learns from them is in raw pixels again once multiplied by the size: nothing is added.
    """
    ids: list[str] = []
    arrays: list[np.ndarray] = [np.zeros((0, 6))]  # score, box, class
    for image in images:
        boxes = image["boxes_yxyx"].astype(np.float64) * np.tile(image["size"], 2)
        arrays.append(np.column_stack([image["scores"], boxes, image["classes"]]))
        ids += [image["image_id"].decode()] * len(boxes)
    table, names = np.concatenate(arrays), np.array(ids, dtype=np.str_)
    return {
        int(class_id): Detections(names[mine], table[mine, 0], table[mine, 1:5])
        for class_id in np.unique(table[:, 5])
        for mine in [table[:, 5] == class_id]
    }


def write_results(pred_dir: str | Path, detections: Mapping[int, Detections], num_classes: int) -> None:
    """Write `results_{class_id}.txt` for the classes 1..num_classes - 1, empty where there is no detection.

    Lines are `image_id score xmin ymin xmax ymax`. Ten decimals tell any two float32 scores above .01 apart,
    so that reading gives the same order. Results of other classes, left by an earlier run, are removed.

    Raises:
        ValueError: a class id outside of 1..num_classes - 1, or a score or coordinate that is not finite.
    """
    pred_dir = Path(pred_dir)
    class_ids = range(1, num_classes)
    unknown = sorted(set(detections) - set(class_ids))
    if unknown:
        raise ValueError(
            f"detections of class ids {unknown}, but num_classes {num_classes} allows 1 to {num_classes - 1}"
        )
    texts = {class_id: _format_results(class_id, detections.get(class_id)) for class_id in class_ids}
    for class_id, text in texts.items():
        write_whole(results_path(pred_dir, class_id), text)
    for stale in set(results_class_ids(pred_dir)) - set(class_ids):
        results_path(pred_dir, stale).unlink(missing_ok=True)


def _format_results(class_id: int, found: Detections | None) -> str:
    if found is None:
        return ""
    numbers = np.column_stack([found.scores, found.boxes_yxyx_px[:, [1, 0, 3, 2]]])
    if not np.isfinite(numbers).all():
        bad = found.image_ids[~np.isfinite(numbers).all(axis=1)][0]
        raise ValueError(f"detections of class {class_id} in image {bad}: a score or coordinate is not finite")
    rows = zip(found.image_ids.tolist(), numbers.tolist(), strict=True)
    line = "{} {:.10f} {:.4f} {:.4f} {:.4f} {:.4f}\n".format
    return "".join(line(image_id, *row) for image_id, row in rows)


def read_results(path: str | Path) -> Detections:
    """Read one results file; the last five fields of a line are numbers, the rest is the image id.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line has fewer than six fields, or a number that is not finite; names file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"results file {path} does not exist: write it with eval_ssd.py")
    try:
        image_ids, numbers = _split_lines(read_utf8(path))
    except ValueError as error:
        raise ValueError(_first_bad_line(path)) from error
    # [D, 5] of score, xmin, ymin, xmax, ymax -> boxes in the order ymin, xmin, ymax, xmax.
    return Detections(np.array(image_ids, dtype=np.str_), numbers[:, 0], numbers[:, [2, 1, 4, 3]])


def _split_lines(text: str) -> tuple[list[str], np.ndarray]:
    """Return the image ids and the finite numbers [D, 5]; a ValueError if any line is not readable.

    One flat list of numbers is three times as fast as a list a line, which keeps the garbage collector busy.
    """
    image_ids: list[str] = []
    numbers: list[float] = []
    for line in text.split("\n"):
        if line and not line.isspace():
            image_id, score, xmin, ymin, xmax, ymax = line.rsplit(None, 5)
            image_ids.append(image_id.strip())
            numbers += (float(score), float(xmin), float(ymin), float(xmax), float(ymax))
    table = np.array(numbers, dtype=np.float64).reshape(-1, 5)
    if not np.isfinite(table).all():
        raise ValueError("a number is not finite")
    return image_ids, table


def _first_bad_line(path: Path) -> str:
    for number, line in enumerate(read_utf8(path).split("\n"), start=1):
        fields = line.rsplit(None, 5)
        if fields and (len(fields) != 6 or any(_finite(field) is None for field in fields[1:])):
            expected = "image_id score xmin ymin xmax ymax with finite numbers"
            return f"results file {path}, line {number}: {line.strip()!r} is not {expected}"
    raise AssertionError(f"{path} changed while it was read")

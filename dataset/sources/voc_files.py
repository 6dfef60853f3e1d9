"""PASCAL VOC on disk: annotations, image sets and images.

A split folder (VOC2007, VOC2012, VOC2007TEST) holds Annotations/, ImageSets/Main/ and JPEGImages/; one without
ImageSets/, such as labelling tools write, is taken whole, with the annotations beside the pictures or in any folder.
VOC counts pixels from 1, and both ends of a box are inside it; boxes keep these raw values here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lxml import etree

from dataset.sources import folders, names
from dataset.sources.annotations import Annotation, LabelledObject
from utility.files.text_files import finite_number, read_utf8, shortened

_TRUE_WORDS = frozenset({"true", "yes"})
_FALSE_WORDS = frozenset({"", "false", "no", "unspecified"})
_MOST_BYTES = 50_000_000  # of an annotation, which would be some 200,000 objects
_PER_CLASS_FLAGS = frozenset({"1", "-1", "0"})


class AnnotationError(ValueError):
    """An annotation that is missing or cannot be read; the message names the file and the object."""


def read_annotation(path: str | Path) -> Annotation:
    """Read one VOC annotation; the boxes of `<part>` elements are ignored.

    `<difficult>`, `<truncated>` and `<size>` may be missing. A DOCTYPE is refused, because its entities can make the
    parser read other files or exhaust the memory.

    Raises:
        AnnotationError: the file is missing, is too large, is not XML, has a DOCTYPE, or has an object without a name,
            with a name that cannot be one, or with a box coordinate that is missing or not a finite number.
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
        size = path.stat().st_size
        data = path.read_bytes() if size <= _MOST_BYTES else b""
    except OSError as error:
        raise AnnotationError(f"{path}: the annotation cannot be read: {error.strerror}") from error
    if size > _MOST_BYTES:
        raise AnnotationError(f"{path}: the annotation has {size / 1e6:.0f} MB, more than {_MOST_BYTES / 1e6:.0f}")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise AnnotationError(f"{path}: the annotation is not well-formed XML: {shortened(error.msg)}") from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise AnnotationError(f"{path}: the annotation has a DOCTYPE or an entity, which is refused; remove it")
    if root.tag != "annotation":
        raise AnnotationError(f"{path}: not a VOC annotation: the root is <{shortened(root.tag)}>, not <annotation>")
    return root


def _read_object(element: Any, where: str) -> LabelledObject:
    texts = _texts(element)
    name = texts.get("name", "").strip()
    if not name:
        raise AnnotationError(f"{where} has no <name>")
    fault = names.fault_of_name(name)
    if fault:
        raise AnnotationError(f"{where}: <name> is '{shortened(name)}', which {fault}: give it another name")
    where = f"{where} ({shortened(name)})"
    box = element.find("bndbox")
    if box is None:
        raise AnnotationError(f"{where} has no <bndbox>")
    sides = _texts(box)
    ymin, xmin, ymax, xmax = (_coordinate_px(sides, side, where) for side in ("ymin", "xmin", "ymax", "xmax"))
    return LabelledObject(
        name=name,
        box_yxyx_px=(ymin, xmin, ymax, xmax),
        difficult=_read_flag(texts, "difficult", where),
        truncated=_read_flag(texts, "truncated", where),
    )


def _texts(element: Any) -> dict[str, str]:
    """Return the text of each direct child by tag; the first child of a tag counts."""
    return {child.tag: child.text or "" for child in reversed(element)}


def _coordinate_px(sides: Mapping[str, str], side: str, where: str) -> float:
    if side not in sides:
        raise AnnotationError(f"{where}: <bndbox> has no <{side}>")
    value = finite_number(sides[side])
    if value is None:
        raise AnnotationError(f"{where}: <{side}> is '{shortened(sides[side].strip())}', not a finite number")
    return value


def _read_flag(texts: Mapping[str, str], tag: str, where: str) -> bool:
    """Return whether a 0/1 flag is set; 0 if it is missing. Labelling tools also write words."""
    text = texts.get(tag, "").strip().lower()
    value = finite_number(text)
    if value is not None:
        return value != 0
    if text in _TRUE_WORDS or text in _FALSE_WORDS:
        return text in _TRUE_WORDS
    raise AnnotationError(f"{where}: <{tag}> is '{shortened(text)}', neither 0 nor 1")


def _side_px(size: Mapping[str, str], tag: str) -> int:
    """Return the height or width of the image in pixels, 0 if it is missing or no positive number."""
    value = finite_number(size.get(tag, ""))
    return int(value) if value is not None and value > 0 else 0


def annotation_path(split_dir: str | Path, image_id: str) -> Path:
    """Return the path of an image's annotation."""
    return Path(split_dir) / "Annotations" / f"{image_id}.xml"


def read_image_set(split_dir: str | Path, image_set: str) -> list[str]:
    """Return the image ids of ImageSets/Main/{image_set}.txt, in the order of the file.

    In VOC's lists for one class, with lines such as "000012 -1", the second column is ignored.

    Raises:
        FileNotFoundError: there is no such list; the message names those that exist.
        ValueError: the list is empty, or has an id twice or one that cannot name a file.
    """
    path = Path(split_dir) / "ImageSets" / "Main" / f"{image_set}.txt"
    if not path.is_file():
        existing = ", ".join(sorted(other.stem for other in path.parent.glob("*.txt"))) or "none"
        raise FileNotFoundError(f"image set {path} does not exist; sets in that folder: {existing}")
    lines = [line.strip() for line in read_utf8(path).split("\n")]
    ids = [line for line in lines if line]
    if not ids:
        raise ValueError(f"image set {path} is empty: it must hold one image id a line")
    if _is_per_class_list(split_dir, ids):
        ids = [line.rsplit(None, 1)[0] for line in ids]
    for image_id in ids:
        if fault := names.fault_of_image_id(image_id):
            raise ValueError(f"image set {path}: the id '{shortened(image_id)}' {fault}: correct or remove the line")
    doubles = [image_id for image_id, count in Counter(ids).items() if count > 1]
    if doubles:
        raise ValueError(f"image set {path} holds {len(doubles)} ids more than once, the first is {doubles[0]!r}")
    return ids


def _is_per_class_list(split_dir: str | Path, lines: list[str]) -> bool:
    """Return whether lines are "000012 -1", and not ids such as "photo 1", which have an annotation."""
    fields = (line.rsplit(None, 1) for line in lines)
    flagged = all(len(field) == 2 and field[1] in _PER_CLASS_FLAGS for field in fields)
    return flagged and not annotation_path(split_dir, lines[0]).is_file()


def index_images(split_dir: str | Path) -> dict[str, Path]:
    """Return the image file of each id in JPEGImages/, sorted by name; `folders.SUFFIXES` tells which are images.

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
        if folders.is_picture(path):
            if path.stem in images:
                raise ValueError(f"{images[path.stem]} and {path} have the same image id: remove one of them")
            images[path.stem] = path
    return images


def has_image_sets(split_dir: str | Path) -> bool:
    """Tell whether a split folder lists its images; one that does not is taken whole."""
    return (Path(split_dir) / "ImageSets").is_dir()


def pair_files(split_dir: str | Path) -> list[tuple[Path | None, Path | None]]:
    """Return each annotation of a folder without image sets with its picture, in the order of the pictures' paths.

    The annotation of a picture is the .xml beside it or else the one of its name anywhere in the folder. Pictures are
    looked for in JPEGImages/ if there is such a folder. None stands for one that is missing.

    Raises:
        ValueError: a picture has several annotations, none of them beside it.
    """
    split_dir = Path(split_dir)
    files = folders.files_below(split_dir)
    within = split_dir / "JPEGImages" if (split_dir / "JPEGImages").is_dir() else split_dir
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        if path.suffix.lower() == ".xml" and not path.name.startswith("."):
            by_name[path.stem].append(path)
    pairs: list[tuple[Path | None, Path | None]] = []
    for path in files:
        if folders.is_picture(path) and path.is_relative_to(within):
            found = by_name[path.stem]
            beside = [xml for xml in found if xml.parent == path.parent]
            if len(found) > 1 and not beside:
                raise ValueError(f"{path} has several annotations, {found[0]} and {found[1]}: put its own beside it")
            pairs.append((next(iter(beside or found), None), path))
    taken = {xml for xml, _ in pairs}
    return pairs + [(xml, None) for path in by_name.values() for xml in path if xml not in taken]

"""The label format of PASCAL VOC: the splits, image sets, annotations and class names of a VOCROOT.

A folder with pictures and their XML will do as well: with folders train/ and valid/ these are the splits, without them
the folder itself is the training split. A split without ImageSets/ is taken whole. CVAT exports a folder that is one
split, with lists such as default.txt.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from lxml import etree
from tqdm import tqdm

from dataset.sources import folders, labels
from dataset.sources.annotations import (
    TRAIN,
    VALIDATION,
    Annotation,
    DataSet,
    LabelledObject,
    Source,
    Split,
    around_turned,
)
from dataset.sources.folders import SourceFlag, finite_number
from utility.errors import UserError
from utility.files.text_files import read_utf8, shortened

FLAGS: tuple[SourceFlag, ...] = (
    folders.DIRECTORY_FLAG,
    SourceFlag(
        "train_splits",
        "folders of VOCROOT; default: VOC2007 and VOC2012, whichever is there, or else train, or else VOCROOT itself",
        is_list=True,
    ),
    SourceFlag(
        "validation_splits",
        "folders of VOCROOT; default: VOC2007TEST, or without it VOC2007, if that has the validation image set, or "
        "else valid, val or test",
        is_list=True,
    ),
    SourceFlag(
        "train_image_set", "list of training images in ImageSets/Main; default: trainval, or else train or default"
    ),
    SourceFlag(
        "validation_image_set",
        "list of validation images in ImageSets/Main; default: test, or, where train is the training list, val first; "
        "VOC2007 must have it to stand in for VOC2007TEST",
    ),
    folders.LABELS_FLAG,
)
_SPLIT_FLAGS = {TRAIN: "--train_splits", VALIDATION: "--validation_splits"}
_SUFFIXES = ", ".join(folders.SUFFIXES)
_USUAL_TRAIN_SPLITS = ("VOC2007", "VOC2012")
_USUAL_VALIDATION_SPLIT = "VOC2007TEST"
_TRAIN_SETS = ("trainval", "train", "default")
_TEST_SETS, _VALIDATION_SETS = ("test",), ("val", "valid", "validation", "test")  # the second beside a list "train"
_WORDS = {"true": True, "yes": True, "": False, "false": False, "no": False, "unspecified": False}  # for 0 and 1


class AnnotationError(UserError):
    """An annotation that is missing or cannot be read; the message names the file and the object."""


def read_data_set(values: Mapping[str, Any], skip_bad_images: bool) -> DataSet:
    """Read the training and validation images of a VOCROOT, as `formats.SourceFormat` says; no picture is opened."""
    root = Path(values["dataset_directory"])
    if not root.is_dir():
        raise FileNotFoundError(f"--dataset_directory: {root} is not a folder")
    chosen = {TRAIN: values["train_splits"], VALIDATION: values["validation_splits"]}
    for prefix, named in chosen.items():
        flag, names = _SPLIT_FLAGS[prefix], named or []
        if missing := [name for name in names if not (root / name).is_dir()]:
            there = _folders(root)
            raise FileNotFoundError(f"{flag}: no folder {', '.join(missing)} in {root}; folders there: {there}")
        if len(set(names)) < len(names):
            raise UserError(f"{flag}={','.join(names)} names a split twice")
    if chosen[TRAIN] is None:
        chosen[TRAIN] = _usual_train_splits(root)
    train_set = values["train_image_set"] or _first_set(root, chosen[TRAIN], _TRAIN_SETS)
    usual_sets = _TEST_SETS if train_set.lower() == _TRAIN_SETS[0] else _VALIDATION_SETS
    validation_set = values["validation_image_set"]
    if chosen[VALIDATION] is None:
        chosen[VALIDATION] = _usual_validation_splits(root, (validation_set,) if validation_set else usual_sets)
    image_sets = {TRAIN: train_set, VALIDATION: validation_set or _first_set(root, chosen[VALIDATION], usual_sets)}
    if not any(chosen.values()):
        raise UserError("--train_splits and --validation_splits are both empty: no split to convert")
    splits = {key: read_split(root, names, image_sets[key], skip_bad_images) for key, names in chosen.items() if names}
    if VALIDATION in splits:  # results files name its images by id only
        ids = Counter(source.annotation.image_id for source in splits[VALIDATION].sources)
        if doubled := [image_id for image_id, count in ids.items() if count > 1]:
            several = ", ".join(chosen[VALIDATION])
            raise UserError(f"image {doubled[0]} is in several of the validation splits {several}: rename it")
    class_names = folders.class_names(
        values["labels_file"], [each for split in splits.values() for each in split.sources]
    )
    return DataSet(class_names, {"dataset_directory": str(root.resolve())}, splits, _SPLIT_FLAGS, pixel_extent=1.0)


def _usual_train_splits(root: Path) -> Sequence[str]:
    """Return the split folders to train on where none is named, as the flag's text tells."""
    if usual := [name for name in _USUAL_TRAIN_SPLITS if (root / name).is_dir()]:
        return usual
    if has_image_sets(root):
        return ["."]
    splits = folders.split_folders(root)
    if TRAIN in splits:
        return [splits[TRAIN].name]
    near = (path for pattern in ("*", "*/*") for path in sorted(root.glob(pattern)))
    listed = next(filter(has_image_sets, near), None)
    if not (splits or listed) and any(path.suffix.lower() == ".xml" for path in folders.files_below(root)):
        return ["."]
    example = f", such as --dataset_directory={listed.parent} --train_splits={listed.name}" if listed else ""
    remedy = f": give --dataset_directory the folder that holds them, or name the splits with --train_splits{example}"
    raise FileNotFoundError(
        f"neither {' nor '.join(_USUAL_TRAIN_SPLITS)} in {root} (folders there: {_folders(root)}), nor a folder "
        f"train, nor pictures with their .xml{(not listed and folders.hint(root, 'voc')) or remedy}"
    )


def _first_set(root: Path, splits: Sequence[str], usual: Sequence[str]) -> str:
    """Return the first of some usual image sets, as it is written there, that a split folder has; or else the first."""
    paths = [path for name in splits for path in sorted((root / name / "ImageSets" / "Main").glob("*.txt"))]
    found = {path.stem.lower(): path.stem for path in reversed(paths)}
    return next((found[name] for name in usual if name in found), usual[0])


def _usual_validation_splits(root: Path, image_sets: Sequence[str]) -> Sequence[str]:
    """Return the split folders to evaluate on where none is named, as the flag's text tells; there may be none."""
    if (root / _USUAL_VALIDATION_SPLIT).is_dir():
        return [_USUAL_VALIDATION_SPLIT]
    if any((root / name).is_dir() for name in _USUAL_TRAIN_SPLITS):
        # VOC's archives unpack the test images into VOC2007
        in_devkit = root / "VOC2007" / "ImageSets" / "Main" / f"{image_sets[0]}.txt"
        return ["VOC2007"] if in_devkit.is_file() else []
    if has_image_sets(root):
        name = _first_set(root, ["."], image_sets)
        return ["."] if (root / "ImageSets" / "Main" / f"{name}.txt").is_file() else []
    splits = folders.split_folders(root)
    found = splits.get(VALIDATION, splits.get(folders.TEST))
    return [found.name] if found else []


def _folders(root: Path) -> str:
    return ", ".join(sorted(path.name for path in root.iterdir() if path.is_dir())) or "none"


def read_split(root: Path, split_names: Sequence[str], image_set: str, skip_bad: bool) -> Split:
    """Read the annotations of an image set in each split folder, and find the images.

    A folder without image sets is taken whole, in the order of its pictures' paths. A folder or list that is missing is
    a FileNotFoundError; an image or annotation that is missing or cannot be read is a UserError or, with `skip_bad`,
    left out.
    """
    sources, skipped = [], []
    listed = [name for name in split_names if has_image_sets(root / name)]
    pairs: list[tuple[Path | None, Path | None]]
    for name in split_names:
        folder = root / name
        if name in listed:
            ids = read_image_set(folder, image_set)
            images = index_images(folder)
            pairs = [(annotation_path(folder, each), images.get(each)) for each in ids]
        else:
            pairs = pair_files(folder)
            if not any(xml for xml, _ in pairs):
                raise FileNotFoundError(
                    f"there is no picture with an .xml annotation in {folder}{folders.hint(root, 'voc')}"
                )
            ids = folders.image_ids([picture for _, picture in pairs if picture], folder)
        unlabelled = sum(xml is None for xml, _ in pairs)
        progress = tqdm(pairs, desc=f"{name} annotations", unit="file", disable=None, leave=False)
        for (xml, picture), image_id in zip_longest(progress, ids):  # annotations without a picture come last
            try:
                if xml is None:
                    raise UserError(
                        f"{picture} has no annotation, an .xml of its name; nor have {unlabelled - 1} others: write "
                        "one without objects where there are none"
                    )
                annotation = read_annotation(xml)
                if picture is None:
                    place = folder / "JPEGImages" if (folder / "JPEGImages").is_dir() else folder
                    raise UserError(f"{xml}: there is no picture of this name in {place} ({_SUFFIXES}, in any case)")
            except UserError as error:
                if not skip_bad:
                    raise UserError(f"{error} (--skip_bad_images leaves such images out)") from error
                skipped.append(str(error))
            else:
                where = xml.relative_to(root).as_posix()
                sources.append(Source(where, replace(annotation, image_id=image_id), picture))
    origin = {"source_splits": list(split_names), "image_set": image_set if listed else None}
    names = ", ".join("the folder itself" if name == "." else name for name in split_names)
    return Split(f"{names} ({image_set if listed else 'all pictures'})", origin, tuple(sources), tuple(skipped))


def has_image_sets(split_dir: str | Path) -> bool:
    """Tell whether a split folder lists its images; one that does not is taken whole."""
    return (Path(split_dir) / "ImageSets").is_dir()


def read_image_set(split_dir: str | Path, image_set: str) -> list[str]:
    """Return the image ids of ImageSets/Main/{image_set}.txt, in the order of the file.

    In VOC's lists for one class, with lines such as "000012 -1", the second column is ignored.

    Raises:
        FileNotFoundError: there is no such list.
        UserError: the list is empty, or has an id twice or one that cannot name a file.
    """
    path = Path(split_dir) / "ImageSets" / "Main" / f"{image_set}.txt"
    if not path.is_file():
        existing = ", ".join(sorted(other.stem for other in path.parent.glob("*.txt"))) or "none"
        raise FileNotFoundError(f"image set {path} does not exist; sets in that folder: {existing}")
    ids = [line.strip() for line in read_utf8(path).split("\n") if line.strip()]
    if not ids:
        raise UserError(f"image set {path} is empty: it must hold one image id a line")
    columns = [line.rsplit(None, 1) for line in ids]
    is_of_one_class = all(len(each) == 2 and each[1] in ("1", "-1", "0") for each in columns)
    if is_of_one_class and not annotation_path(split_dir, ids[0]).is_file():  # it is no list of "photo 1", "photo 0"
        ids = [image_id for image_id, _ in columns]
    for image_id in ids:
        fault = labels.fault_of_characters(image_id)
        if "\\" in image_id or {"..", "."}.intersection(image_id.split("/")) or image_id.startswith("/"):
            fault = "names another folder, or has a backslash"
        if fault:
            raise UserError(f"image set {path}: the id '{shortened(image_id)}' {fault}: correct or remove the line")
    if doubles := [image_id for image_id, count in Counter(ids).items() if count > 1]:
        raise UserError(f"image set {path} holds {len(doubles)} ids more than once, the first is {doubles[0]!r}")
    return ids


def annotation_path(split_dir: str | Path, image_id: str) -> Path:
    """Return the path of an image's annotation."""
    return Path(split_dir) / "Annotations" / f"{image_id}.xml"


def index_images(split_dir: str | Path) -> dict[str, Path]:
    """Return the image file of each id, its path in JPEGImages/ up to the last dot, sorted by path.

    Raises:
        FileNotFoundError: the split has no folder JPEGImages.
        UserError: two files have the same id.
    """
    folder = Path(split_dir) / "JPEGImages"
    if not folder.is_dir():
        raise FileNotFoundError(f"image folder {folder} does not exist: a VOC split keeps its images there")
    images: dict[str, Path] = {}
    for path in folders.pictures_below(folder):
        image_id = path.relative_to(folder).with_suffix("").as_posix()
        if image_id in images:
            raise UserError(f"{images[image_id]} and {path} have the same image id: remove one of them")
        images[image_id] = path
    return images


def pair_files(split_dir: str | Path) -> list[tuple[Path | None, Path | None]]:
    """Return each annotation of a folder without image sets with its picture, in the order of the pictures' paths.

    The annotation of a picture is the .xml beside it or else the one of its name anywhere in the folder. Pictures are
    looked for in JPEGImages/ if there is such a folder. None stands for one that is missing.

    Raises:
        UserError: a picture has several annotations, none of them beside it.
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
                raise UserError(f"{path} has several annotations, {found[0]} and {found[1]}: put its own beside it")
            pairs.append((next(iter(beside or found), None), path))
    taken = {xml for xml, _ in pairs}
    return pairs + [(xml, None) for path in by_name.values() for xml in path if xml not in taken]


def read_annotation(path: str | Path) -> Annotation:
    """Read one VOC annotation; the boxes of `<part>` elements are ignored.

    `<difficult>`, `<truncated>` and `<size>` may be missing. A DOCTYPE is refused, because its entities can make the
    parser read other files or exhaust the memory.

    Raises:
        AnnotationError: the file is missing, is no VOC annotation, or has an object without a usable name or box.
    """
    path = Path(path)
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(path.read_bytes(), parser)
    except OSError as error:
        raise AnnotationError(f"{path}: the annotation cannot be read: {error.strerror}") from error
    except etree.XMLSyntaxError as error:
        raise AnnotationError(f"{path}: the annotation is not well-formed XML: {shortened(error.msg)}") from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise AnnotationError(f"{path}: the annotation has a DOCTYPE or an entity, which is refused; remove it")
    if root.tag != "annotation":
        raise AnnotationError(f"{path}: not a VOC annotation: the root is <{shortened(root.tag)}>, not <annotation>")
    # a size that is missing or no positive number is 0
    sides = (finite_number(root.findtext(f"size/{side}", "")) or 0 for side in ("height", "width"))
    height, width = (max(int(side), 0) for side in sides)
    elements = enumerate(root.findall("object"), start=1)
    objects = tuple(_read_object(element, f"{path}: object {number}") for number, element in elements)
    return Annotation(path.stem, path, height, width, objects)


def _read_object(element: Any, where: str) -> LabelledObject:
    name = element.findtext("name", "").strip()
    if not name:
        raise AnnotationError(f"{where} has no <name>")
    if fault := labels.fault_of_name(name):
        raise AnnotationError(f"{where}: <name> is '{shortened(name)}', which {fault}: give it another name")
    where = f"{where} ({shortened(name)})"
    box = element.find("bndbox")
    if box is None:
        older = "; it is the older LabelMe's XML, which is not read here: datumaro converts it (label_me to coco)"
        raise AnnotationError(f"{where} has no <bndbox>{older if element.find('polygon') is not None else ''}")
    edges = []
    for side in ("ymin", "xmin", "ymax", "xmax"):
        text = box.findtext(side)
        if text is None:
            raise AnnotationError(f"{where}: <bndbox> has no <{side}>")
        edge = finite_number(text)
        if edge is None:
            raise AnnotationError(f"{where}: <{side}> is '{shortened(text.strip())}', not a finite number")
        edges.append(edge)
    ymin, xmin, ymax, xmax = edges
    attributes = element.findall("attributes/attribute")
    turns = [finite_number(each.findtext("value", "")) for each in attributes if each.findtext("name") == "rotation"]
    is_difficult, is_truncated = (_read_flag(element, tag, where) for tag in ("difficult", "truncated"))
    if any(turns):
        ymin, xmin, ymax, xmax = around_turned((ymin, xmin, ymax, xmax), turns[0] or 0.0)
    return LabelledObject(name, (ymin, xmin, ymax, xmax), is_difficult, is_truncated, rotated=any(turns))


def _read_flag(element: Any, tag: str, where: str) -> bool:
    """Return whether a 0/1 flag is set; 0 if it is missing. Labelling tools also write words."""
    text = element.findtext(tag, "").strip().lower()
    value = finite_number(text)
    if value is not None:
        return value != 0
    if text not in _WORDS:
        raise AnnotationError(f"{where}: <{tag}> is '{shortened(text)}', neither 0 nor 1")
    return _WORDS[text]

"""The label format of PASCAL VOC: the splits, image sets, annotations and class names of a VOCROOT.

A folder with pictures and their XML will do as well: with folders train/ and valid/ these are the splits, without them
the folder itself is the training split. A split without ImageSets/ is taken whole.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lxml import etree
from tqdm import tqdm

from dataset.sources import folders, labels
from dataset.sources.annotations import TRAIN, VALIDATION, Annotation, DataSet, LabelledObject, Source, Split
from utility.errors import UserError
from utility.files.text_files import finite_number, read_utf8, shortened
from utility.flags import SourceFlag

# PASCAL VOC on disk: annotations, image sets and images.

_TRUE_WORDS = frozenset({"true", "yes"})
_FALSE_WORDS = frozenset({"", "false", "no", "unspecified"})
_MOST_BYTES = 50_000_000  # of an annotation, which would be some 200,000 objects
_PER_CLASS_FLAGS = frozenset({"1", "-1", "0"})


class AnnotationError(UserError):
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
    fault = labels.fault_of_name(name)
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
        UserError: the list is empty, or has an id twice or one that cannot name a file.
    """
    path = Path(split_dir) / "ImageSets" / "Main" / f"{image_set}.txt"
    if not path.is_file():
        existing = ", ".join(sorted(other.stem for other in path.parent.glob("*.txt"))) or "none"
        raise FileNotFoundError(f"image set {path} does not exist; sets in that folder: {existing}")
    lines = [line.strip() for line in read_utf8(path).split("\n")]
    ids = [line for line in lines if line]
    if not ids:
        raise UserError(f"image set {path} is empty: it must hold one image id a line")
    if _is_per_class_list(split_dir, ids):
        ids = [line.rsplit(None, 1)[0] for line in ids]
    for image_id in ids:
        if fault := labels.fault_of_image_id(image_id):
            raise UserError(f"image set {path}: the id '{shortened(image_id)}' {fault}: correct or remove the line")
    doubles = [image_id for image_id, count in Counter(ids).items() if count > 1]
    if doubles:
        raise UserError(f"image set {path} holds {len(doubles)} ids more than once, the first is {doubles[0]!r}")
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
        UserError: two files have the same id.
    """
    folder = Path(split_dir) / "JPEGImages"
    if not folder.is_dir():
        raise FileNotFoundError(f"image folder {folder} does not exist: a VOC split keeps its images there")
    images: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if folders.is_picture(path):
            if path.stem in images:
                raise UserError(f"{images[path.stem]} and {path} have the same image id: remove one of them")
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


USUAL_TRAIN_SPLITS = ("VOC2007", "VOC2012")
USUAL_VALIDATION_SPLIT = "VOC2007TEST"
AUTO = "auto"
_MOST_UNKNOWN = 20  # class names in a message
_SPLIT_FLAGS = {TRAIN: "--train_splits", VALIDATION: "--validation_splits"}
_SUFFIXES = f"{', '.join(folders.SUFFIXES)}, in any case"

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
    SourceFlag("train_image_set", "list of training images in ImageSets/Main", "trainval"),
    SourceFlag(
        "validation_image_set",
        "list of validation images in ImageSets/Main; VOC2007 must have it to stand in for VOC2007TEST",
        "test",
    ),
    folders.LABELS_FLAG,
)


def read(values: Mapping[str, Any], skip_bad_images: bool) -> DataSet:
    """Read the data set that the flags name; see `formats.SourceFormat` and `read_data_set`."""
    return read_data_set(
        Path(values["dataset_directory"]),
        train_splits=values["train_splits"],
        validation_splits=values["validation_splits"],
        train_image_set=values["train_image_set"],
        validation_image_set=values["validation_image_set"],
        labels_file=values["labels_file"],
        skip_bad=skip_bad_images,
    )


def read_data_set(
    root: Path,
    *,
    train_splits: Sequence[str] | None,
    validation_splits: Sequence[str] | None,
    train_image_set: str,
    validation_image_set: str,
    labels_file: str | None,
    skip_bad: bool,
) -> DataSet:
    """Read the training and validation images of a VOCROOT; no picture is opened.

    Args:
        root: VOCROOT.
        train_splits: as in `choose_train_splits`; [] for none.
        validation_splits: as in `choose_validation_splits`; [] for none.
        train_image_set: the list of training images in ImageSets/Main.
        validation_image_set: the list of validation images in ImageSets/Main.
        labels_file: as in `choose_class_names`.
        skip_bad: leave out images whose file is missing or whose annotation is bad, instead of raising.

    Raises:
        FileNotFoundError: a folder or file is missing.
        UserError: no split, a bad annotation or class name, or a validation image in several splits.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"--dataset_directory: {root} is not a folder")
    training = choose_train_splits(root, train_splits)
    validation = choose_validation_splits(root, validation_splits, validation_image_set)
    if not (training or validation):
        raise UserError("--train_splits and --validation_splits are both empty: no split to convert")
    chosen = {TRAIN: (training, train_image_set), VALIDATION: (validation, validation_image_set)}
    splits = {key: read_split(root, folders, name, skip_bad) for key, (folders, name) in chosen.items() if folders}
    _check_distinct(splits.get(VALIDATION))
    class_names = choose_class_names(labels_file, (each for split in splits.values() for each in split.sources))
    return DataSet(class_names, {"dataset_directory": str(root.resolve())}, splits, _SPLIT_FLAGS)


def choose_train_splits(root: Path, named: Sequence[str] | None) -> tuple[str, ...]:
    """Return the split folders to train on: those named, or, for None, VOC2007 and VOC2012 if they exist.

    Without them it is the folder train/, or, in a folder without image sets or folders of splits, the folder itself.

    Raises:
        FileNotFoundError: a named split does not exist, or none is named and there is none of these.
    """
    if named is not None:
        return _checked(root, named, "train_splits")
    if found := _usual_train_splits(root):
        return found
    splits = folders.split_folders(root)
    if TRAIN in splits:
        return (splits[TRAIN].name,)
    near = (root, *(path for pattern in ("*", "*/*") for path in sorted(root.glob(pattern))))
    listed = next(filter(has_image_sets, near), None)
    if splits or listed or not any(path.suffix.lower() == ".xml" for path in root.rglob("*")):
        example = f", such as --dataset_directory={listed.parent} --train_splits={listed.name}" if listed else ""
        remedy = (
            f": give --dataset_directory the folder that holds them, or name the splits with --train_splits{example}"
        )
        raise FileNotFoundError(
            f"neither {' nor '.join(USUAL_TRAIN_SPLITS)} in {root} (folders there: {_folders(root)}), nor a folder "
            f"train, nor pictures with their .xml{(not listed and folders.hint(root, 'voc')) or remedy}"
        )
    return (".",)


def _usual_train_splits(root: Path) -> tuple[str, ...]:
    return tuple(name for name in USUAL_TRAIN_SPLITS if (root / name).is_dir())


def choose_validation_splits(root: Path, named: Sequence[str] | None, image_set: str) -> tuple[str, ...]:
    """Return the split folders to evaluate on: those named, or, for None, VOC2007TEST if it exists.

    Without it, VOC2007 is used if it has the image set, because VOC's archives unpack the test images there. Where
    there is neither VOC2007 nor VOC2012, it is the folder valid/ or val/, or, without these, test/. The result may be
    empty.

    Raises:
        FileNotFoundError: a named split does not exist.
    """
    if named is not None:
        return _checked(root, named, "validation_splits")
    if (root / USUAL_VALIDATION_SPLIT).is_dir():
        return (USUAL_VALIDATION_SPLIT,)
    if not _usual_train_splits(root):
        found = folders.without_test(folders.split_folders(root)).get(VALIDATION)
        return (found.name,) if found else ()
    in_devkit = root / "VOC2007" / "ImageSets" / "Main" / f"{image_set}.txt"
    return ("VOC2007",) if in_devkit.is_file() else ()


def read_split(root: Path, split_names: Sequence[str], image_set: str, skip_bad: bool) -> Split:
    """Read the annotations of an image set in each split folder, and find the images.

    A folder without image sets is taken whole, in the order of its pictures' paths.

    Raises:
        FileNotFoundError: a split has no such image set, or no images or annotations.
        UserError: an image is missing, or its annotation is missing or cannot be read; with `skip_bad` it is left out.
    """
    sources: list[Source] = []
    skipped: list[str] = []
    listed = [name for name in split_names if has_image_sets(root / name)]
    for name in split_names:
        read = _read_listed(root, name, image_set) if name in listed else _read_whole(root, name)
        for source in tqdm(read, desc=f"{name} annotations", unit="file", disable=None, leave=False):
            if isinstance(source, Source):
                sources.append(source)
            elif skip_bad:
                skipped.append(str(source))
            else:
                raise UserError(f"{source} (--skip_bad_images leaves such images out)")
    origin = {"source_splits": list(split_names), "image_set": image_set if listed else None}
    names = ", ".join("the folder itself" if name == "." else name for name in split_names)
    return Split(f"{names} ({image_set if listed else 'all pictures'})", origin, tuple(sources), tuple(skipped))


def _read_listed(root: Path, split_name: str, image_set: str) -> Iterator[Source | UserError]:
    """Yield each image of an image set, or what is wrong with it."""
    ids = read_image_set(root / split_name, image_set)
    images = index_images(root / split_name)
    for image_id in ids:
        path = annotation_path(root / split_name, image_id)
        missing = root / split_name / "JPEGImages" / image_id
        yield _try_source(root, path, images.get(image_id), f"{missing}: there is no image of this name ({_SUFFIXES})")


def _read_whole(root: Path, split_name: str) -> Iterator[Source | UserError]:
    """Yield each picture of a folder without image sets, or what is wrong with it."""
    folder = root / split_name
    pairs = pair_files(folder)
    unlabelled = [picture for xml, picture in pairs if picture and not xml]
    if len(unlabelled) == len(pairs):
        raise FileNotFoundError(f"there is no picture with an .xml annotation in {folder}{folders.hint(root, 'voc')}")
    ids = iter(folders.image_ids([picture for _, picture in pairs if picture], folder))
    for xml, picture in pairs:
        image_id = next(ids) if picture else ""
        if not xml:
            yield UserError(
                f"{picture} has no annotation, an .xml of its name; nor have {len(unlabelled) - 1} others: write "
                "one without objects where there are none"
            )
            continue
        found = _try_source(root, xml, picture, f"{xml}: there is no picture of this name ({_SUFFIXES})")
        if isinstance(found, Source):
            found = replace(found, annotation=replace(found.annotation, image_id=image_id))
        yield found


def _try_source(root: Path, path: Path, image_path: Path | None, no_image: str) -> Source | UserError:
    """Return an annotation with its picture, or the error: that of the annotation, or that there is no picture."""
    try:
        annotation = read_annotation(path)
    except AnnotationError as error:
        return error
    return Source(path.relative_to(root).as_posix(), annotation, image_path) if image_path else UserError(no_image)


def choose_class_names(labels_file: str | None, sources: Iterable[Source]) -> tuple[str, ...]:
    """Return the class names: of VOC for None, of the annotations, sorted, for 'auto', or else of a file.

    Raises:
        FileNotFoundError: the file does not exist.
        UserError: the file or the annotations have no class name or a bad one, or annotations have names that are not
            in the list; the message has the first of them with their counts.
    """
    counts = _count_names(sources)
    if labels_file == AUTO:
        if not counts:
            raise UserError("--labels_file=auto finds no class: there is no object in any annotation")
        return tuple(sorted(counts))
    class_names = labels.read_labels(labels_file) if labels_file else labels.VOC_CLASSES
    unknown = sorted(set(counts) - set(class_names))
    if unknown:
        told = ", ".join(f"{name} ({counts[name]})" for name in unknown[:_MOST_UNKNOWN])
        more = f" and {len(unknown) - _MOST_UNKNOWN} more" if len(unknown) > _MOST_UNKNOWN else ""
        whose = labels_file or "the 20 VOC classes, the default"
        raise UserError(
            f"class names in the annotations, with counts, that are not in {whose}: {told}{more}; "
            "take all names with --labels_file=auto, or give --labels_file a file with one name a line"
        )
    return class_names


def _count_names(sources: Iterable[Source]) -> Counter[str]:
    return Counter(labelled.name for source in sources for labelled in source.annotation.objects)


def _check_distinct(split: Split | None) -> None:
    """Refuse equal ids of validation images, because results files name images by id only."""
    ids = Counter(source.annotation.image_id for source in split.sources) if split else {}
    doubled = [image_id for image_id, count in ids.items() if count > 1]
    if split and doubled:
        folders = ", ".join(split.origin["source_splits"])
        raise UserError(f"image {doubled[0]} is in several of the validation splits {folders}: rename it")


def _checked(root: Path, named: Sequence[str], flag: str) -> tuple[str, ...]:
    missing = [name for name in named if not (root / name).is_dir()]
    if missing:
        raise FileNotFoundError(f"--{flag}: no folder {', '.join(missing)} in {root}; folders there: {_folders(root)}")
    if len(set(named)) < len(named):
        raise UserError(f"--{flag}={','.join(named)} names a split twice")
    return tuple(named)


def _folders(root: Path) -> str:
    return ", ".join(sorted(path.name for path in root.iterdir() if path.is_dir())) or "none"

"""The label format of PASCAL VOC: the splits, image sets, annotations and class names of a VOCROOT."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dataset.sources import labels, names, plausibility, voc_files
from dataset.sources.annotations import TRAIN, VALIDATION, DataSet, Source, Split
from utility.flags.data import SourceFlag

USUAL_TRAIN_SPLITS = ("VOC2007", "VOC2012")
USUAL_VALIDATION_SPLIT = "VOC2007TEST"
AUTO = "auto"
_MOST_UNKNOWN = 20  # class names in a message
_SPLIT_FLAGS = {TRAIN: "--train_splits", VALIDATION: "--validation_splits"}

FLAGS: tuple[SourceFlag, ...] = (
    SourceFlag(
        "dataset_directory",
        "VOCROOT: the folder that holds VOC2007, VOC2012, ...",
        must_be="VOCROOT, the folder that holds VOC2007, ...",
    ),
    SourceFlag("train_splits", "folders of VOCROOT; default: VOC2007 and VOC2012, whichever is there", is_list=True),
    SourceFlag(
        "validation_splits",
        "folders of VOCROOT; default: VOC2007TEST, or without it VOC2007, if that has the validation image set",
        is_list=True,
    ),
    SourceFlag("train_image_set", "list of training images in ImageSets/Main", "trainval"),
    SourceFlag(
        "validation_image_set",
        "list of validation images in ImageSets/Main; VOC2007 must have it to stand in for VOC2007TEST",
        "test",
    ),
    SourceFlag("labels_file", "of VOC: class names, one a line; 'auto' collects them; default: VOC's 20"),
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
        ValueError: no split, a bad annotation or class name, a validation image in several splits, or boxes that are
            fractions of the image.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"--dataset_directory: {root} is not a folder")
    training = choose_train_splits(root, train_splits)
    validation = choose_validation_splits(root, validation_splits, validation_image_set)
    if not (training or validation):
        raise ValueError("--train_splits and --validation_splits are both empty: no split to convert")
    chosen = {TRAIN: (training, train_image_set), VALIDATION: (validation, validation_image_set)}
    splits = {key: read_split(root, folders, name, skip_bad) for key, (folders, name) in chosen.items() if folders}
    _check_distinct(splits.get(VALIDATION))
    sources = [source for split in splits.values() for source in split.sources]
    plausibility.refuse_fractions(sources)
    class_names = choose_class_names(labels_file, sources)
    alike = names.look_alikes({**dict.fromkeys(class_names, 0), **_count_names(sources)})
    return DataSet(class_names, {"dataset_directory": str(root.resolve())}, splits, _SPLIT_FLAGS, notes=alike)


def choose_train_splits(root: Path, named: Sequence[str] | None) -> tuple[str, ...]:
    """Return the split folders to train on: those named, or, for None, VOC2007 and VOC2012 if they exist.

    Raises:
        FileNotFoundError: a named split does not exist, or none is named and neither exists.
    """
    if named is not None:
        return _checked(root, named, "train_splits")
    found = tuple(name for name in USUAL_TRAIN_SPLITS if (root / name).is_dir())
    if not found:
        raise FileNotFoundError(
            f"neither {' nor '.join(USUAL_TRAIN_SPLITS)} in {root} (folders there: {_folders(root)}): "
            "give --dataset_directory the folder that holds them, or name the splits with --train_splits"
        )
    return found


def choose_validation_splits(root: Path, named: Sequence[str] | None, image_set: str) -> tuple[str, ...]:
    """Return the split folders to evaluate on: those named, or, for None, VOC2007TEST if it exists.

    Without it, VOC2007 is used if it has the image set, because VOC's archives unpack the test images there. The result
    may be empty.

    Raises:
        FileNotFoundError: a named split does not exist.
    """
    if named is not None:
        return _checked(root, named, "validation_splits")
    if (root / USUAL_VALIDATION_SPLIT).is_dir():
        return (USUAL_VALIDATION_SPLIT,)
    in_devkit = root / "VOC2007" / "ImageSets" / "Main" / f"{image_set}.txt"
    return ("VOC2007",) if in_devkit.is_file() else ()


def read_split(root: Path, split_names: Sequence[str], image_set: str, skip_bad: bool) -> Split:
    """Read the annotations of an image set in each split folder, and find the images.

    Raises:
        FileNotFoundError: a split has no such image set or no images.
        ValueError: an image is missing, or its annotation cannot be read; with `skip_bad` it is left out.
    """
    sources: list[Source] = []
    skipped: list[str] = []
    for name in split_names:
        ids = voc_files.read_image_set(root / name, image_set)
        images = voc_files.index_images(root / name)
        for image_id in tqdm(ids, desc=f"{name} annotations", unit="file", disable=None, leave=False):
            try:
                sources.append(_read_source(root, name, image_id, images))
            except ValueError as error:
                if not skip_bad:
                    raise ValueError(f"{error} (--skip_bad_images leaves such images out)") from error
                skipped.append(str(error))
    origin = {"source_splits": list(split_names), "image_set": image_set}
    return Split(f"{', '.join(split_names)} ({image_set})", origin, tuple(sources), tuple(skipped))


def choose_class_names(labels_file: str | None, sources: Iterable[Source]) -> tuple[str, ...]:
    """Return the class names: of VOC for None, of the annotations, sorted, for 'auto', or else of a file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file or the annotations have no class name or a bad one, or annotations have names that are not
            in the list; the message has the first of them with their counts.
    """
    counts = _count_names(sources)
    if labels_file == AUTO:
        if not counts:
            raise ValueError("--labels_file=auto finds no class: there is no object in any annotation")
        return tuple(sorted(counts))
    class_names = labels.read_labels(labels_file) if labels_file else labels.VOC_CLASSES
    unknown = sorted(set(counts) - set(class_names))
    if unknown:
        told = ", ".join(f"{name} ({counts[name]})" for name in unknown[:_MOST_UNKNOWN])
        more = f" and {len(unknown) - _MOST_UNKNOWN} more" if len(unknown) > _MOST_UNKNOWN else ""
        whose = labels_file or "the 20 VOC classes, the default"
        raise ValueError(
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
        raise ValueError(f"image {doubled[0]} is in several of the validation splits {folders}: rename it")


def _checked(root: Path, named: Sequence[str], flag: str) -> tuple[str, ...]:
    missing = [name for name in named if not (root / name).is_dir()]
    if missing:
        raise FileNotFoundError(f"--{flag}: no folder {', '.join(missing)} in {root}; folders there: {_folders(root)}")
    if len(set(named)) < len(named):
        raise ValueError(f"--{flag}={','.join(named)} names a split twice")
    return tuple(named)


def _folders(root: Path) -> str:
    return ", ".join(sorted(path.name for path in root.iterdir() if path.is_dir())) or "none"


def _read_source(root: Path, split_name: str, image_id: str, images: Mapping[str, Path]) -> Source:
    annotation = voc_files.read_annotation(voc_files.annotation_path(root / split_name, image_id))
    if image_id not in images:
        suffixes = ", ".join(voc_files.IMAGE_SUFFIXES)
        folder = root / split_name / "JPEGImages"
        raise ValueError(f"{folder / image_id}: there is no image of this name ({suffixes}, in any case)")
    return Source(annotation.path.relative_to(root).as_posix(), annotation, images[image_id])

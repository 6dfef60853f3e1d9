"""Data sets that tests convert, with the command line's flags as keywords."""

from dataset.conversion.convert import check_numbers, convert
from dataset.sources.annotations import TRAIN, VALIDATION
from dataset.sources.formats import FORMATS, read_data_set

_NUMBERS = ("train_shards", "validation_shards", "num_threads")


def convert_voc(*, output_directory, **flags):
    """Convert a VOC directory; flags are those of the label format and of `convert`."""
    return _convert("voc", output_directory, flags)


def convert_coco(*, output_directory, **flags):
    """Convert COCO's annotations; flags are those of the label format and of `convert`."""
    return _convert("coco", output_directory, flags)


def convert_yolo(*, output_directory, **flags):
    """Convert YOLO's labels; flags are those of the label format and of `convert`."""
    return _convert("yolo", output_directory, flags)


def convert_labelme(*, output_directory, **flags):
    """Convert labelme's JSON files; flags are those of the label format and of `convert`."""
    return _convert("labelme", output_directory, flags)


def convert_odapi(*, output_directory, **flags):
    """Convert records of the Object Detection API; flags are those of the label format and of `convert`."""
    return _convert("odapi", output_directory, flags)


def convert_openimages(*, output_directory, **flags):
    """Convert Open Images' CSV; flags are those of the label format and of `convert`."""
    return _convert("openimages", output_directory, flags)


def _convert(format_name, output_directory, flags):
    check_numbers(**{name: flags[name] for name in _NUMBERS if name in flags})
    shards = {TRAIN: flags.pop("train_shards", 16), VALIDATION: flags.pop("validation_shards", 16)}
    values = {flag.name: flags.pop(flag.name, flag.default) for flag in FORMATS[format_name].FLAGS}
    data = read_data_set(
        format_name,
        values,
        skip_bad_images=flags.get("skip_bad_images", False),
        validation_fraction=flags.pop("validation_fraction", None),
    )
    return convert(data, output_directory, shards=shards, **flags)

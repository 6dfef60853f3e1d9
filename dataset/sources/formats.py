"""The label formats that the converter reads; a new one is a module with `FLAGS` and `read`, and an entry here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from dataset.sources import coco, partition, plausibility, voc, yolo
from dataset.sources.annotations import DataSet
from utility.flags import SourceFlag


class SourceFormat(Protocol):
    """The interface of a module that reads a label format."""

    FLAGS: tuple[SourceFlag, ...]

    def read(self, values: Mapping[str, Any], skip_bad_images: bool) -> DataSet:
        """Read all annotations of a data set; no picture is decoded, but its size may be read from its header.

        Args:
            values: of the format's FLAGS, by name; None for a flag that is not given and has no default.
            skip_bad_images: leave out images that are missing or whose annotation cannot be read, with a line for each
                in `Split.skipped`.

        Raises:
            OSError: a file or folder is missing.
            UserError: a flag, an annotation or a class name is wrong.
        """
        ...


FORMATS: Mapping[str, SourceFormat] = {"voc": voc, "coco": coco, "yolo": yolo}


def read_data_set(
    format_name: str, values: Mapping[str, Any], *, skip_bad_images: bool, validation_fraction: float | None = None
) -> DataSet:
    """Read a data set, take a part of its training images for validation if asked to, and look at the whole.

    Args:
        format_name: one of FORMATS.
        values: as in `SourceFormat.read`.
        skip_bad_images: as in `SourceFormat.read`.
        validation_fraction: as in `partition.divided`; None to leave the splits as they are.

    Raises:
        OSError: a file or folder is missing.
        UserError: a flag, an annotation or a class name is wrong, or boxes are fractions of the image.
    """
    data = FORMATS[format_name].read(values, skip_bad_images)
    if validation_fraction is not None:
        data = partition.divided(data, validation_fraction)
    return plausibility.reviewed(data)

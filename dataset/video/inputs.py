"""What the demo is told to look at: pictures, videos, or a camera; and the files that it draws to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dataset.sources import folders
from dataset.video import reading

LIST_NAME = "detections.json"
_CAMERA = re.compile(r"camera:([0-9]{1,3})")


@dataclass(frozen=True)
class Inputs:
    """Pictures, videos, or the number of a camera and nothing else."""

    pictures: tuple[Path, ...] = ()
    videos: tuple[Path, ...] = ()
    camera: int | None = None


def read(inputs: Sequence[str]) -> Inputs:
    """Return what --input names: files, the pictures in folders, or a camera.

    Raises:
        ValueError: a folder has no picture, or a camera is not alone or has no number.
    """
    if any(text.startswith("camera:") for text in inputs):
        number = _CAMERA.fullmatch(inputs[0])
        if number is None or len(inputs) > 1:
            raise ValueError(f"--input={' '.join(inputs)}: a camera is camera:0, camera:1, ..., and one input alone")
        return Inputs(camera=int(number[1]))
    paths: list[Path] = []
    for path in map(Path, inputs):
        inside = sorted(filter(folders.is_picture, path.iterdir())) if path.is_dir() else [path]
        if not inside:
            below = next((other.parent for other in path.rglob("*") if folders.is_picture(other)), None)
            hint = f"; {below} has some" if below else ""
            none = f"there is no picture ({', '.join(folders.SUFFIXES)}) in this folder"
            raise ValueError(f"--input={path}: {none}{hint}")
        paths += inside
    videos = tuple(path for path in paths if is_video(path))
    return Inputs(tuple(path for path in paths if path not in videos), videos)


def is_video(path: Path) -> bool:
    """Tell whether a file is a video by its name."""
    return path.suffix.lower() in reading.SUFFIXES


def target(path: Path, output: Path) -> Path:
    """Return the file in the folder `output` that a picture or video is drawn to."""
    return output / f"{path.stem}{'.mp4' if is_video(path) else '.jpg'}"


def check(inputs: Inputs, output: Path) -> None:
    """Refuse to draw two inputs to one file, or over one that is read, and videos that cannot be read.

    Raises:
        ValueError: in these cases; it names the file.
    """
    targets: dict[Path, Path] = {}
    for path in (*inputs.pictures, *inputs.videos):
        drawn = target(path, output)
        # where names are the same in upper and lower case, or linked, only the file system knows
        is_input = drawn.resolve() == path.resolve() or (drawn.exists() and path.exists() and drawn.samefile(path))
        if drawn.resolve() in targets or is_input:
            other = targets.get(drawn.resolve(), path)
            raise ValueError(f"--output={output}: {path} would be drawn over {other}; take another folder")
        targets[drawn.resolve()] = path
    for path in inputs.videos:
        reading.Video(path).close()

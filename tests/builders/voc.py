"""Small VOC directories, made to measure."""

import numpy as np
from PIL import Image

SIZE = (60, 40)  # width, height in pixels


def box(xmin, ymin, xmax, ymax, name="cat", **marks):
    """The XML of an object; marks are further elements, as in difficult=1."""
    inside = "".join(f"<{tag}>{value}</{tag}>" for tag, value in marks.items())
    sides = f"<xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax>"
    return f"<object><name>{name}</name>{inside}<bndbox>{sides}</bndbox></object>"


def picture(size=SIZE, seed=0):
    """A picture of coarse random colours."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


class VocBuilder:
    """Writes images and annotations below a VOCROOT, and remembers their ids for the image sets."""

    def __init__(self, root):
        self.root = root
        self.ids = {}

    def add(self, image_id, *objects, split="VOC2007", image_set="trainval", size=SIZE, name=None, image=None):
        """Add an image; `size` is what the annotation says, `name` the file's, `image` a picture or bytes."""
        folder = self.root / split
        for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        sides = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>" if size else ""
        xml = f"<annotation>{sides}{''.join(objects)}</annotation>"
        (folder / "Annotations" / f"{image_id}.xml").write_text(xml)
        path = folder / "JPEGImages" / (name or f"{image_id}.jpg")
        image = picture(seed=len(self.ids)) if image is None else image
        if isinstance(image, bytes):
            path.write_bytes(image)
        else:
            image.save(path)
        ids = self.ids.setdefault((split, image_set), [])
        ids.append(image_id)
        (folder / "ImageSets" / "Main" / f"{image_set}.txt").write_text("\n".join(ids) + "\n")
        return path

    def add_many(self, count, split="VOC2007", image_set="trainval", start=0):
        """Add images with one cat each."""
        for number in range(start, start + count):
            self.add(f"{number:06d}", box(5, 6, 30, 31), split=split, image_set=image_set)
        return self

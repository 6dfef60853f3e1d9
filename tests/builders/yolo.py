"""Small YOLO data sets: pictures, label files and data.yaml."""

from tests.builders.voc import picture


class YoloBuilder:
    """Writes pictures below images/ and their labels below labels/."""

    def __init__(self, root):
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def add(self, name, *lines, folder="images/train", image=None):
        """Add a picture with a label file of these lines; None for no file. The folder's `images` becomes `labels`."""
        path = self.root / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (picture(seed=sum(str(path).encode())) if image is None else image).save(path)
        if lines != (None,):
            labels = self.root / folder.replace("images", "labels") / f"{path.stem}.txt"
            labels.parent.mkdir(parents=True, exist_ok=True)
            labels.write_text("".join(f"{line}\n" for line in lines))
        return path

    def describe(self, text, name="data.yaml"):
        (self.root / name).write_text(text)
        return self

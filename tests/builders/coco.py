"""Small COCO data sets: images and their instances JSON."""

import json

from tests.builders.voc import SIZE, picture


class CocoBuilder:
    """Writes images and an instances JSON of two categories, with gaps between the ids and not in their order."""

    def __init__(self, root, name="instances.json"):
        self.folder, self.path = root / "images", root / name
        self.folder.mkdir(parents=True, exist_ok=True)
        categories = [{"id": 90, "name": "toothbrush"}, {"id": 3, "name": "hot dog"}]
        self.document = {"images": [], "annotations": [], "categories": categories}

    def add(self, image_id, *boxes, category_id=3, name=None, **marks):
        """Add an image with objects of one category; marks are further keys of each."""
        name = name or f"{image_id:012d}.jpg"
        picture(seed=image_id).save(self.folder / name)
        width, height = SIZE
        self.document["images"].append({"id": image_id, "file_name": name, "width": width, "height": height})
        for box in boxes:
            self.add_object(image_id, box, category_id=category_id, **marks)
        return self.save()

    def add_object(self, image_id, box, category_id=3, **marks):
        """Add an object; marks are further keys."""
        annotation_id = 1000 + len(self.document["annotations"])
        entry = {"id": annotation_id, "image_id": image_id, "category_id": category_id, "bbox": list(box), **marks}
        self.document["annotations"].append(entry)

    def save(self):
        self.path.write_text(json.dumps(self.document))
        return self

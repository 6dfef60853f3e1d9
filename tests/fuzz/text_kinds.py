"""Annotations, settings, flags and other texts."""

import dataclasses
import json
import math
from typing import ClassVar

import numpy as np
from absl import flags as absl_flags
from absl.testing import flagsaver

import train_ssd
from dataset.records import record_files
from dataset.scores import voc_results
from dataset.sources import coco, labelme, labels, openimages, voc, yolo
from tests.builders.configs import VOC_LIKE, voc_config
from tests.builders.voc import box, picture
from tests.fuzz.damage import damaged, json_case
from tests.fuzz.kind import Kind
from utility import flags
from utility.config import config_file
from utility.files import yaml_files
from utility.run import cluster

_XML = (
    f"<annotation><size><width>60</width><height>40</height></size>{box(1, 2, 30, 31, difficult=1)}"
    f"{box(5.5, 6, 50, 39, name='dog', truncated=0)}</annotation>"
).encode()
_COCO = {
    "images": [{"id": n, "file_name": f"{n}.jpg", "height": 40, "width": 60} for n in (1, 2, 3)],
    "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
    "annotations": [
        {"id": n, "image_id": 1 + n % 3, "category_id": 7 + 2 * (n % 2), "bbox": [1, 2, 10.5, 20], "iscrowd": n % 2}
        for n in range(5)
    ],
}

_LABELME = {
    "version": "5.5.0",
    "shapes": [
        {"label": "cat", "points": [[1, 2], [30.5, 20]], "shape_type": "rectangle"},
        {"label": "dog", "points": [[20, 15], [23, 19]], "shape_type": "circle"},
        {"label": "dog", "points": [[20, 15], [23, 19], [5, 6]], "shape_type": "polygon"},
    ],
    "imagePath": "a.jpg",
    "imageHeight": 40,
    "imageWidth": 60,
}
_OPEN_IMAGES = b"""ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf
0a,xclick,/m/01yrx,1,0.25,0.75,0.1,0.5,0,1,0
0a,xclick,/m/0bt9lr,1,0,1,0,1,0,0,1
"""


class Voc(Kind):
    name = "a.xml"

    @classmethod
    def content(cls, rng):
        return damaged(rng, _XML)

    @staticmethod
    def read(path):
        for labelled in voc.read_annotation(path).objects:
            assert labelled.name.strip() == labelled.name != "" and all(map(math.isfinite, labelled.box_yxyx_px))


class Coco(Kind):
    name = "instances.json"

    @classmethod
    def content(cls, rng):
        return json_case(rng, _COCO)

    @staticmethod
    def read(path):
        instances = coco.read_instances(path)
        for annotation in instances.annotations.values():
            assert all(math.isfinite(side) for each in annotation.objects for side in each.box_yxyx_px)
        assert all(type(image_id) is int for image_id in instances.file_names)


class LabelMe(Kind):
    name = "a.json"

    @classmethod
    def write(cls, rng, folder):
        picture().save(folder / "a.jpg")
        return super().write(rng, folder)

    @classmethod
    def content(cls, rng):
        return json_case(rng, _LABELME)

    @staticmethod
    def read(path):
        annotation, image_path = labelme.read_file(path, [])
        assert image_path.is_file()
        assert all(math.isfinite(side) for each in annotation.objects for side in each.box_yxyx_px)


class OpenImages(Kind):
    name = "boxes.csv"

    @classmethod
    def write(cls, rng, folder):
        (folder / "images").mkdir(exist_ok=True)
        picture().save(folder / "images" / "0a.jpg")
        return super().write(rng, folder)

    @classmethod
    def content(cls, rng):
        return damaged(rng, _OPEN_IMAGES)

    @staticmethod
    def read(path):
        values = {"annotations": str(path), "images": str(path.parent / "images"), "labels_file": None}
        data = openimages.read_data_set({"validation_annotations": None, "validation_images": None, **values}, False)
        (source,) = data.splits["train"].sources
        for each in source.annotation.objects:
            assert all(0 <= side <= 60 for side in each.box_yxyx_px)


class Yolo(Kind):
    name = "labels.txt"

    @classmethod
    def content(cls, rng):
        return damaged(rng, b"0 0.5 0.5 0.25 0.125\n1 .1 .2 .3 .4 .5 .6\n" * 3)

    @staticmethod
    def read(path):
        for labelled in yolo.read_objects(path, {0: "cat", 1: "dog"}, (40, 60), keypoints=False):
            ymin, xmin, ymax, xmax = labelled.box_yxyx_px
            assert -20.1 < ymin <= ymax < 60.1 and -30.1 < xmin <= xmax < 90.1


class Yaml(Kind):
    name = "data.yaml"
    _texts = (
        b"path: . # here\ntrain: [a, 'b']\n",
        b'names:\n  0: cat\n  1: "d\\xe9g"\n',
        b"val:\n- a\n- [b, {c: d}]\n",
    )

    @classmethod
    def content(cls, rng):
        return damaged(rng, b"".join(rng.sample(cls._texts, rng.randrange(1, 4))))

    @staticmethod
    def read(path):
        assert all(isinstance(key, str) for key in yaml_files.read_yaml(path))


class Config(Kind):
    name = config_file.CONFIG_FILE
    _document: ClassVar = json.loads(json.dumps(dataclasses.asdict(voc_config())))

    @classmethod
    def content(cls, rng):
        return json_case(rng, cls._document)

    @staticmethod
    def read(path):
        config = config_file.load(str(path.parent))
        assert config is not None and all(isinstance(name, str) for name in config.class_names)


class DatasetInfo(Kind):
    name = record_files.INFO_NAME
    _document: ClassVar = {
        "class_names": ["a", "b"],
        "splits": {"train": {"images": 3, "skipped": []}},
        "category_ids": [1, 2],
        "views": {"max_side": 640, "tile_size": None, "tile_overlap": 0.2},
    }

    @classmethod
    def content(cls, rng):
        return json_case(rng, cls._document)

    @staticmethod
    def read(path):
        (path.parent / "labels.txt").write_text("a\nb\n")
        record_files.class_names(str(path.parent), None)
        record_files.views(str(path.parent))


class Labels(Kind):
    name = "names.txt"

    @classmethod
    def content(cls, rng):
        return damaged(rng, "cat\ndog\nüber\n".encode())

    @staticmethod
    def read(path):
        assert all(name.strip() for name in labels.read_labels(path))


class Results(Kind):
    name = "results_1.txt"

    @classmethod
    def content(cls, rng):
        return damaged(rng, b"".join(b"%06d 0.5%d 1.5 2 30 40.25\n" % (n, n) for n in range(8)))

    @staticmethod
    def read(path):
        found = voc_results.read_results(path)
        assert np.isfinite(found.scores).all() and np.isfinite(found.boxes_yxyx_px).all()


class TfConfig(Kind):
    name = "tf_config.json"
    _document: ClassVar = {
        "cluster": {"worker": ["one:1", "two:2"], "evaluator": ["three:3"]},
        "task": {"type": "worker", "index": 0},
    }

    @classmethod
    def content(cls, rng):
        return json_case(rng, cls._document)

    @staticmethod
    def read(path):
        cluster.read({cluster.VARIABLE: path.read_bytes().decode(errors="surrogateescape")})


class Flags(Kind):
    """A command line of train_ssd.py, one argument a line."""

    name = "flags.txt"
    _values = ("0", "1", "-1", "0.5", "1e308", "1e-320", "nan", "inf", "1_0", "٣", "²", "", "x", "99999999999999999999")
    _more_values = ("1,2,3", "0.1,1", "300x300", "1e9x1", "100000000", "a b", "../x", "$\\x$", "A" * 5000, "true")

    @classmethod
    def content(cls, rng):
        if "preset" not in absl_flags.FLAGS:
            train_ssd.define_flags()
        modules = absl_flags.FLAGS.flags_by_module_dict()
        names = [flag.name for module in ("utility.flags", "train_ssd") for flag in modules[module]]
        lines = [
            f"--{rng.choice(names)}={rng.choice((*cls._values, *cls._more_values))}"
            for _ in range(rng.choice((1, 1, 2, 3)))
        ]
        return "\n".join(lines).encode()

    @staticmethod
    def read(path):
        given = path.read_text().split("\n")
        with flagsaver.flagsaver():
            try:
                absl_flags.FLAGS(["train_ssd.py", *given])
            except absl_flags.Error as error:
                raise OSError(str(error)) from error  # status 2
            config = flags.asked_config(VOC_LIKE, flags.NETWORK, flags.TRAINING)
            train_ssd.scheduled(config, 1000, pretrained=False, before=None)

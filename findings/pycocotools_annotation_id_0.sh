#!/usr/bin/env bash
# pycocotools 2.0.11: a detection that matches the annotation with id 0 counts as a false positive.
#
# Guess before the run: ids are names, so perfect detections score 1 whatever the ids are.
# Seen: with ids 1 and 2 AP is 1.000; with ids 0 and 1, which globox, Label Studio and pylabel write, it is .500, for
# COCOeval keeps the id of the matched annotation and takes 0 for "no match". No warning is printed.
# Who scores against such a file must number the annotations anew, from 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pycocotools==2.0.11 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON'
import contextlib
import io

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

BOXES = {1: [10.0, 20.0, 40.0, 30.0], 2: [5.0, 6.0, 50.0, 60.0]}


def average_precision(first_id):
    annotations = [
        {"id": first_id + n, "image_id": image, "category_id": image, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for n, (image, box) in enumerate(BOXES.items())
    ]
    truth = COCO()
    truth.dataset = {
        "images": [{"id": image, "width": 100, "height": 100} for image in BOXES],
        "categories": [{"id": image, "name": f"class {image}"} for image in BOXES],
        "annotations": annotations,
    }
    found = [{"image_id": image, "category_id": image, "bbox": box, "score": 0.9} for image, box in BOXES.items()]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[0]


scores = {first: average_precision(first) for first in (1, 0)}
for first, score in scores.items():
    print(f"perfect detections, annotation ids from {first}: AP {score:.3f}")
assert abs(scores[1] - 1.0) < 1e-9 and abs(scores[0] - 0.5) < 1e-9, "the behaviour has changed"
PYTHON

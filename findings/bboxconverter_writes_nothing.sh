#!/usr/bin/env bash
# bboxconverter 0.1.9 writes nothing when it is asked for YOLO or Pascal VOC, and raises no error.
#
# Guess before the run: YOLO with a .txt for each picture, VOC with an .xml, as its documentation lists both formats.
# Seen: it prints "Not implemented yet", returns, and the folder is empty. (It needs numpy below 2, which it does not
# declare: with a newer one its import fails.)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check bboxconverter==0.1.9 "numpy==1.26.4"
cd "$folder"
venv/bin/python - <<'PYTHON'
import json
from pathlib import Path

import bboxconverter

box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10.0, 20.0, 40.0, 40.0], "area": 1600.0, "iscrowd": 0}
images = [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 80}]
document = {"images": images, "annotations": [box], "categories": [{"id": 1, "name": "cat"}]}
Path("coco.json").write_text(json.dumps(document))
parser = bboxconverter.read_coco("coco.json")
for name in ("voc", "yolo"):
    Path(name).mkdir()
    parser.export(output_path=name, format=name)
    found = [path for path in Path(name).rglob("*") if path.is_file()]
    print(f"{name}: {len(found)} files")
    assert not found, "the behaviour has changed"
PYTHON

#!/usr/bin/env bash
# labelme2coco 0.2.6 writes the path of each picture, as seen from where it ran, as COCO's file_name.
#
# Guess before the run: the name of the picture, as in labelme's imagePath, relative to the folder of the pictures.
# Seen: for an imagePath of "a.jpg" the file_name is the folder that was given, and a.jpg: an absolute path where the
# folder was given by one. On another machine, or after a move, no reader finds the pictures unless it looks for the last
# part of the path in its own folder. Categories are numbered from 0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check labelme2coco==0.2.6 pillow==12.0.0
cd "$folder"
venv/bin/python - <<'PYTHON' 2>/dev/null
import json
from pathlib import Path

import labelme2coco
from PIL import Image

Path("pictures").mkdir()
Image.new("RGB", (100, 80)).save("pictures/a.jpg")
shape = {"label": "cat", "points": [[10.0, 20.0], [50.0, 60.0]], "shape_type": "rectangle", "flags": {}}
label = {"version": "5.5.0", "flags": {}, "shapes": [shape], "imagePath": "a.jpg", "imageData": None}
Path("pictures/a.json").write_text(json.dumps({**label, "imageHeight": 80, "imageWidth": 100}))
for folder in ("pictures", str(Path.cwd() / "pictures")):
    labelme2coco.convert(folder, "written")
    written = json.loads(Path("written/dataset.json").read_text())
    name, ids = written["images"][0]["file_name"], [category["id"] for category in written["categories"]]
    print("file_name:", name.replace(str(Path.cwd()), "/..."), " category ids:", ids)
    assert name == f"{folder}/a.jpg" and ids == [0], "the behaviour has changed"
PYTHON

#!/usr/bin/env bash
# labelme2yolo 0.4.0 leaves out the labelme files that globox 2.9.0 writes, and reports that nothing went wrong.
#
# Guess before the run: both know labelme's format, so one reads what the other writes.
# Seen: globox writes no `version`. labelme2yolo counts such a file as processed, but neither as converted nor as skipped
# nor as failed; it ends with status 0 and writes a dataset.yaml without names, and no label file. With a `version` added
# to the same file it converts it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check globox==2.9.0 labelme2yolo==0.4.0 pillow==12.0.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import json
from pathlib import Path

from globox import Annotation, AnnotationSet, BoundingBox
from PIL import Image

box = BoundingBox(label="cat", xmin=10.0, ymin=20.0, xmax=50.0, ymax=60.0)
AnnotationSet([Annotation(image_id="a.jpg", image_size=(100, 80), boxes=[box])]).save_labelme(Path("written"))
written = json.loads(Path("written/a.json").read_text())
Path("with_version").mkdir()
Path("with_version/a.json").write_text(json.dumps({**written, "version": "5.5.0"}))
for name in ("written", "with_version"):
    Image.new("RGB", (100, 80)).save(f"{name}/a.jpg")
PYTHON
for name in written with_version; do
    venv/bin/labelme2yolo --json_dir "$name" >"$name.log" 2>&1
    echo "$name: status $?, $(find "$name/YOLODataset" -name '*.txt' | wc -l) label files"
    grep -o -E '(Total files processed|Successful conversions|Skipped \(.*\)|Failed conversions): [0-9]+' "$name.log" | sed 's/^/    /'
done
grep -q 'Successful conversions: 0' written.log
grep -q 'Failed conversions: 0' written.log
[ "$(find written/YOLODataset -name '*.txt' | wc -l)" = 0 ]
grep -q 'Successful conversions: 1' with_version.log
[ "$(find with_version/YOLODataset -name '*.txt' | wc -l)" = 1 ]

#!/usr/bin/env bash
# darwin-py 3.6.3 (V7 Darwin) exports COCO files whose category ids are checksums of the names, above the range of int32.
#
# Guess before the run: category ids 1, 2, ... as in COCO.
# Seen: "cat" is 2656977832, the CRC-32 of its name; the image's id is that of its name too. Code that takes an id for an
# index or stores it as int32 fails or wraps around: classes must be numbered by their place in the sorted list.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check darwin-py==3.6.3
cd "$folder"
venv/bin/python - <<'PYTHON' 2>/dev/null
import json
import zlib
from pathlib import Path

from darwin.exporter.formats import coco
from darwin.utils import parse_darwin_json

slot = {"type": "image", "slot_name": "0", "width": 100, "height": 80, "source_files": [{"file_name": "a.jpg", "url": ""}]}
source = {"dataset": {"name": "d", "slug": "d"}, "item_id": "1", "team": {"name": "t", "slug": "t"}, "workview_url": ""}
cat = {"id": "1", "name": "cat", "bounding_box": {"x": 10.0, "y": 20.0, "w": 40.0, "h": 40.0}, "slot_names": ["0"]}
document = {
    "version": "2.0",
    "schema_ref": "darwin_json/2.0/schema.json",
    "item": {"name": "a.jpg", "path": "/", "source_info": source, "slots": [slot]},
    "annotations": [{**cat, "annotators": [], "reviewers": [], "properties": []}],
}
Path("a.json").write_text(json.dumps(document))
coco.export(iter([parse_darwin_json(Path("a.json"), 1)]), Path("."))
written = json.loads(Path("output.json").read_text())
ids = {category["name"]: category["id"] for category in written["categories"] if category["name"] == "cat"}
print("category ids:", ids, " image id:", written["images"][0]["id"])
assert ids == {"cat": zlib.crc32(b"cat")} and ids["cat"] > 2**31, "the behaviour has changed"
PYTHON

"""Make the pictures of README.md from what `make quickstart` left; `make pictures` does both.

    python -m tests.readme_pictures quickstart demo/shown

Needs Chromium for the piece of the report; prints the size of each picture.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageOps

from utility.drawing.sheet import save_sheet

DRAWN = 6  # pictures on the sheet of detections
CELL = (360, 270)  # width and height of each, pixels
WIDTH = 1000  # pixels
REPORT = (1000, 1500)  # of the window that is photographed; a picture must not show the end of the page as empty


def detections(drawn, output):
    """Put drawn pictures on a sheet, each as large as fits."""
    pictures = [Image.open(path) for path in sorted(drawn.glob("*.jpg"))[:DRAWN]]
    save_sheet([ImageOps.pad(picture, CELL, color="white") for picture in pictures], output)


def small(picture, output):
    """Write a picture in a width for a page; a PNG with few colours."""
    with Image.open(picture) as opened:
        whole = opened.convert("RGB")
    whole.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
    if output.suffix == ".png":
        whole.quantize(64, dither=Image.Dither.NONE).save(output, optimize=True)
    else:
        whole.save(output, quality=80)


def report(page, output):
    """Photograph the beginning of a page."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        sys.exit("no Chromium here: install it, such as by apt install chromium, or keep the picture that is there")
    with tempfile.TemporaryDirectory() as folder:
        taken = Path(folder) / "report.png"
        arguments = [f"--screenshot={taken}", f"--window-size={REPORT[0]},{REPORT[1]}", page.resolve().as_uri()]
        headless = [chromium, "--headless", "--no-sandbox", "--hide-scrollbars", f"--user-data-dir={folder}/profile"]
        subprocess.run([*headless, *arguments], check=True, capture_output=True, timeout=120)
        small(taken, output)


def main(run, output):
    """Make all of them."""
    output.mkdir(parents=True, exist_ok=True)
    detections(run / "drawn", output / "detections.jpg")
    small(run / "logs" / "first_batch.jpg", output / "first_batch.jpg")
    small(run / "logs" / "curves.png", output / "curves.png")
    report(run / "logs" / "predict" / "eval_output" / "report.html", output / "report.png")
    for path in sorted(output.iterdir()):
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

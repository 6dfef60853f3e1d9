"""Make the pictures of README.md and logs/README.md from what `make quickstart` left; `make pictures` does both.

    python -m tests.readme_pictures quickstart demo/shown

Needs Chromium for the piece of the report; prints the size of each picture.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageOps

from utility.drawing.detections import save_sheet

DRAWN = 6  # pictures on the sheet of detections
CELL = (360, 270)  # width and height of each, pixels
WIDTH, FIRST_BATCH = 900, 620  # of the other pictures, pixels
REPORT = (900, 1150)  # of the window that is photographed, pixels; the page is longer


def detections(drawn, output):
    """Put drawn pictures on a sheet, each as large as fits."""
    pictures = [Image.open(path) for path in sorted(drawn.glob("*.jpg"))[:DRAWN]]
    save_sheet([ImageOps.pad(picture, CELL, color="white") for picture in pictures], output)


def small(picture, output, width=WIDTH):
    """Write a picture in a width for a page; a PNG with 128 colours, chosen so that thin lines keep theirs."""
    with Image.open(picture) as opened:
        whole = opened.convert("RGB")
    whole.thumbnail((width, whole.height), Image.Resampling.LANCZOS)
    if output.suffix == ".png":
        whole = whole.quantize(128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    whole.save(output, quality=75, optimize=True)


def report(chromium, page, output):
    """Photograph the beginning of a page."""
    with tempfile.TemporaryDirectory() as folder:
        taken = Path(folder) / "report.png"
        arguments = [f"--screenshot={taken}", f"--window-size={REPORT[0]},{REPORT[1]}", page.resolve().as_uri()]
        headless = [chromium, "--headless", "--no-sandbox", "--hide-scrollbars", f"--user-data-dir={folder}/profile"]
        run = subprocess.run([*headless, *arguments], check=False, capture_output=True, text=True, timeout=120)
        if not taken.exists():
            sys.exit(f"{chromium} took no picture of {page}: {run.stderr}")
        small(taken, output)


def main(run, output):
    """Make all of them."""
    found = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    chromium = next(found, None) or sys.exit("no Chromium here: install it, such as by apt install chromium")
    page = run / "logs" / "predict" / "eval_output" / "report.html"
    if not page.is_file():  # Chromium would photograph its own page of that error
        sys.exit(f"{page}: there is no such file; make quickstart writes it")
    output.mkdir(parents=True, exist_ok=True)
    report(chromium, page, output / "report.png")
    detections(run / "drawn", output / "detections.jpg")
    small(run / "logs" / "first_batch.jpg", output / "first_batch.jpg", width=FIRST_BATCH)
    small(run / "logs" / "curves.png", output / "curves.png")
    for path in sorted(output.iterdir()):
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

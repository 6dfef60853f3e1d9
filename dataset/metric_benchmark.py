"""The time and memory of voc_eval.py on a VOC test set of random objects and detections without pictures.

Without TensorFlow, whose memory would count as that of the child process.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from dataset.scores import voc_results
from dataset.scores.detection_store import ClassDetections
from dataset.sources import labels
from utility.run.command import ROOT

_TEST_IMAGES, _TEST_DETECTIONS = 4952, 500_000  # VOC2007's test set


def measure_metric(folder: Path, turns: int) -> dict[str, Any]:
    """Time voc_eval.py, start-up and reading included, on a test set of VOC2007's size."""
    write_random_voc(folder, _TEST_IMAGES, _TEST_DETECTIONS)
    arguments = [sys.executable, "voc_eval.py", f"--dataset_directory={folder}", f"--pred_dir={folder / 'predict'}"]
    one_core = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    walls, cpus = [], []
    for _ in range(turns):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(arguments, cwd=ROOT, env=one_core, stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        walls.append(time.perf_counter() - start)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {
        "images": _TEST_IMAGES,
        "detections": _TEST_DETECTIONS,
        "voc_eval.py, s": round(statistics.median(walls), 2),
        "voc_eval.py, s of processor": round(statistics.median(cpus), 2),
    }


def write_random_voc(root: Path, images: int, detections: int, seed: int = 0) -> None:
    """Write VOC2007TEST, 3 objects an image, and predict/: detections near objects, half of them of the right class."""
    rng = np.random.default_rng(seed)
    split_dir = root / "VOC2007TEST"
    (split_dir / "Annotations").mkdir(parents=True)
    (split_dir / "ImageSets" / "Main").mkdir(parents=True)
    ids = np.array([f"{index:06d}" for index in range(1, images + 1)])
    (split_dir / "ImageSets" / "Main" / "test.txt").write_text("\n".join(ids))
    boxes = np.sort(rng.integers(1, 375, [images, 3, 2, 2]), axis=2).reshape(images, 3, 4)
    boxes[..., 2:] += 2
    classes = rng.integers(20, size=[images, 3])
    for image_id, image_boxes, image_classes in zip(ids, boxes.tolist(), classes, strict=True):
        text = "<annotation><size><width>500</width><height>375</height><depth>3</depth></size>"
        for index, (ymin, xmin, ymax, xmax) in zip(image_classes, image_boxes, strict=True):
            text += (
                f"\n<object><name>{labels.VOC_CLASSES[index]}</name><difficult>{int(xmin % 8 == 0)}</difficult><bndbox>"
                f"<xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox></object>"
            )
        (split_dir / "Annotations" / f"{image_id}.xml").write_text(f"{text}</annotation>")
    image, item = rng.integers(images, size=detections), rng.integers(3, size=detections)
    near = boxes[image, item] + rng.normal(0, 12, [detections, 4])
    class_ids = np.where(rng.random(detections) < 0.5, classes[image, item], rng.integers(20, size=detections)) + 1
    found = {
        class_id: ClassDetections(ids[image[mine]], rng.random(mine.sum()), near[mine])
        for class_id in range(1, 21)
        for mine in [class_ids == class_id]
    }
    voc_results.write_results(root / "predict", found, num_classes=21)

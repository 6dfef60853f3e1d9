"""The time and memory of voc_eval.py; without TensorFlow, whose memory would count as that of the child process."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from net.benchmark.random_voc import write_random_voc
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

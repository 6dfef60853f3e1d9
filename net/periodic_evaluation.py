"""Evaluation in the course of a training: scores, sample pictures, the best checkpoint, early stopping."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf
from PIL import Image

from dataset.records.parsing import parse
from dataset.records.record_files import find_shards
from dataset.scores.average_precision import evaluate
from dataset.sources.annotations import VALIDATION, Annotation
from net import curves
from net.curves import Scores
from net.evaluation import Evaluation
from net.prediction import Found
from preprocessing.ssd_preprocessing import decode
from utility.checkpoints import checkpoint_files
from utility.config import config_file
from utility.config.presets import DEMO
from utility.config.settings import Config
from utility.drawing.detections import Mark, class_name, detection_mark, draw_marks, reduced
from utility.errors import UserError
from utility.run.log import attempted, log
from utility.run.sessions import cpu_session

BEST = "best"  # folder in the model directory
_SAMPLED = 8  # pictures of the sample
_LONGEST = 640  # pixels of one
_GROUND_TRUTH = (255, 255, 255)  # colour


class PeriodicEvaluation:
    """Evaluates a training at multiples of `every` steps and at the last, keeps the best checkpoint, stops early.

    The scores are kept in {model_dir}/evaluations.json, which a resumed run reads. {model_dir}/best holds the best
    checkpoint; eval_ssd.py and the demo take that folder like a model directory. TensorBoard shows the scores, and the
    ground truth and detections in a fixed sample of pictures.
    """

    def __init__(
        self, config: Config, data_dir: str, model_dir: str, every: int, patience: int, skip_bad_records: bool = False
    ):
        """Read the scores of an earlier run, and check that the validation records of a data set can be scored.

        `every` counts the steps between two evaluations, 0 where another process trains; `patience` the evaluations
        without a better mAP after which to stop, 0: never. The config is saved beside the best checkpoint.

        A UserError, which names --eval_every_steps, if there are no such records, no object to find in them, or they
        have other classes than the config.
        """
        self._config, self._folder = config, Path(model_dir)
        self._every, self._patience = every, patience
        try:
            shards = find_shards(data_dir, VALIDATION)
            self._evaluation = Evaluation(shards, config, skip_bad_records=skip_bad_records)
            self._history: list[Scores] = curves.read_scores(self._folder)
            evaluate({}, self._evaluation.ground_truth, config.class_names)  # raises now, not after hours of training
        except UserError as error:
            if not every:
                raise
            raise UserError(f"--eval_every_steps={every}: {error}") from error
        self.input_fn = self._evaluation.input_fn

    def resume_at(self, step: int) -> None:
        """Drop the scores of later steps: a run that resumes from an older checkpoint evaluates them again."""
        self._history = [entry for entry in self._history if entry["step"] <= step]

    def next_step(self, step: int) -> int:
        """Return the step after `step` at which to evaluate."""
        return (step // self._every + 1) * self._every

    def is_due(self, step: int, last_step: int) -> bool:
        """Tell whether a training at `step` is to be evaluated now."""
        return step > 0 and not self.has_scored(step) and (step % self._every == 0 or step == last_step)

    def has_scored(self, step: int) -> bool:
        """Tell whether the last evaluation was of `step`."""
        return bool(self._history) and self._history[-1]["step"] == step

    def run(self, estimator: tf.estimator.Estimator, checkpoint: str, step: int, check: Callable[[], None]) -> None:
        """Evaluate a checkpoint, log and save the scores, and keep the checkpoint if it is the best.

        `check` is called after each image, and may raise to interrupt the evaluation.
        """
        log(f"evaluating step {step} on {self._evaluation.images} images")
        of_sample = {*sample_positions(self._evaluation.images)}
        sampled: dict[int, Found] = {}

        def on_image(position: int, found: Found) -> None:
            if position in of_sample:
                sampled[position] = found
            check()

        result = self._evaluation.score(self._evaluation.predict(estimator, checkpoint, on_image))
        scores = {name: score.ap for name, score in result.classes.items()}
        tagged = {"mAP": result.mean_ap, **{f"AP/{name}": ap for name, ap in scores.items()}}
        values = [tf.Summary.Value(tag=f"VOC07/{n}", simple_value=s) for n, s in tagged.items() if s is not None]
        with attempted("the sample of validation pictures"):
            for position, picture in pictures_at(self._evaluation.shards, sorted(sampled)).items():
                annotation = self._evaluation.ground_truth[position]
                drawn = with_truth_and_detections(picture, annotation, sampled[position], self._config)
                encoded = io.BytesIO()
                drawn.save(encoded, format="JPEG", quality=90)
                image = tf.Summary.Image(height=drawn.height, width=drawn.width, colorspace=3)
                image.encoded_image_string = encoded.getvalue()
                values.append(tf.Summary.Value(tag=f"validation/{annotation.image_id}", image=image))
        with tf.Graph().as_default():  # for TensorBoard, as a run of its own
            writer = tf.summary.FileWriterCache.get(str(self._folder / "eval"))
        writer.add_summary(tf.Summary(value=values), step)
        writer.flush()
        best = self._best()
        if best is None or result.mean_ap > best["mAP"]:
            checkpoint_files.copy(checkpoint, str(self._folder / BEST))
            config_file.save(self._config, str(self._folder / BEST))
            log(f"the best so far: kept in {self._folder / BEST}")
        else:
            log(f"the best so far is {best['mAP']:.4f}, of step {best['step']}")
        # saved last: a run that is killed before that evaluates again
        self._history.append({"step": step, "mAP": result.mean_ap, "AP": scores})
        curves.write_scores(self._folder, self._history)
        curves.draw_again(self._folder)

    def stops_early(self) -> bool:
        """Tell whether the last `patience` evaluations have brought no better mAP, and log it."""
        best = self._best()
        since = len(self._history) - 1 - self._history.index(best) if best else 0
        if best is None or not self._patience or since < self._patience:
            return False
        log(
            f"stopped early: {since} evaluations without a better mAP than {best['mAP']:.4f} of step {best['step']};"
            f" that checkpoint is in {self._folder / BEST}; without --early_stop_evals the same command resumes"
        )
        return True

    def _best(self) -> Scores | None:
        return max(self._history, key=lambda entry: entry["mAP"], default=None)  # the first of equal ones


def sample_positions(images: int) -> list[int]:
    """Return the positions of the sample among so many images, evenly spread; all of them if they are few."""
    number = min(images, _SAMPLED)
    return [(2 * n + 1) * images // (2 * number) for n in range(number)]


def pictures_at(shards: Sequence[str], positions: Sequence[int]) -> dict[int, Image.Image]:
    """Return the pictures at some positions in the records, of at most 640 pixels."""
    wanted, as_written = np.array(positions, np.int64), tf.autograph.experimental.do_not_convert
    with cpu_session() as session:
        records = tf.data.TFRecordDataset(list(shards)).enumerate()
        chosen = records.filter(as_written(lambda position, _: tf.reduce_any(tf.equal(position, wanted))))
        pictures = chosen.map(as_written(lambda position, record: (position, decode(parse(record)["image_encoded"]))))
        following = tf.data.make_one_shot_iterator(pictures).get_next()
        found = (session.run(following) for _ in positions)
        return {int(position): reduced(Image.fromarray(pixels), _LONGEST) for position, pixels in found}


def with_truth_and_detections(
    picture: Image.Image, annotation: Annotation, found: Found, config: Config
) -> Image.Image:
    """Return a picture, maybe smaller than the annotated one, with the ground truth in white, and what was found in it.

    Of the detections, those are drawn that the demo would draw.
    """
    height, width = picture.height, picture.width
    shown = np.flatnonzero(found["scores"] >= DEMO["detection.select_threshold"])[: DEMO["detection.nms_topk"]]
    rows = zip(*(found[name][shown] for name in ("boxes_yxyx", "scores", "classes")), strict=True)
    marks = [
        detection_mark(box * [height, width, height, width], score, int(c), config.class_names)
        for box, score, c in rows
    ]
    factor = np.tile([height / annotation.height, width / annotation.width], 2)
    for item in annotation.objects:
        marks.append(Mark(np.array(item.box_yxyx_px) * factor, _GROUND_TRUTH, class_name([item.name], 1)))
    return draw_marks(picture, marks, config.pixel_extent)

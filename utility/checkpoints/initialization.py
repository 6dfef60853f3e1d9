"""Where a training starts from: its own checkpoint, another one (a warm start), or random weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from utility.checkpoints.assignment import Scopes, assign, network_variables, once_for_all_replicas, table, unassigned
from utility.checkpoints.checkpoint_files import IMPORT, IMPORTABLE, newest, open_checkpoint, resolve, stored_step
from utility.checkpoints.warm_start import WarmStart
from utility.config import config_file
from utility.config.settings import Config
from utility.run.log import log


class Resume(NamedTuple):
    """The model directory's own checkpoint, from which the Estimator goes on with all of its variables."""

    checkpoint: str  # prefix

    def load(self) -> None:
        """Log a table of the variables, and check that they fit; the Estimator itself restores them.

        Raises:
            ValueError: the checkpoint is damaged, or of another network.
        """
        once_for_all_replicas(self._check)

    def _check(self) -> None:
        reader = open_checkpoint(self.checkpoint)
        stored = reader.get_variable_to_shape_map()
        plan = assign(stored, network_variables())
        unfit = unassigned(plan)
        if unfit:
            raise ValueError(
                f"--model_dir={Path(self.checkpoint).parent} has a checkpoint of another network,"
                f" {Path(self.checkpoint).name}: {unfit[0].name} has {unfit[0].reason} ({len(unfit)} variables"
                " differ); choose another --model_dir, or the settings it was trained with"
            )
        step = "".join(f", step {step}" for step in [stored_step(reader)] if step is not None)
        log(f"going on from {self.checkpoint}{step}, with the optimizer's variables\n{table(plan)}")


Start = WarmStart | Resume | None  # None: random weights


def starting_point(
    path: str,
    *,
    optional: bool,
    scopes: tuple[str, str, tuple[str, ...]] = ("", "", ()),
    ignore_missing: bool = True,
    model_dir: str | None = None,
    config: Config | None = None,
) -> Start:
    """Return where training starts from: the model directory's checkpoint, or else the one at `path`.

    Args:
      path: a checkpoint or its folder.
      optional: whether there may be none; then None is returned, and training starts from random weights.
      scopes: how the names in that checkpoint differ; the fields of `Scopes`.
      ignore_missing: as in WarmStart.
      model_dir: a checkpoint in it wins over `path`, as in the reference.
      config: of the network, to be compared with the checkpoint's.
    """
    own = newest(model_dir) if model_dir else None
    if own:
        return Resume(own)
    try:
        checkpoint = resolve(path)
        notes = _other_heads(config, checkpoint) if config else ()
        return WarmStart(checkpoint, Scopes(*scopes), ignore_missing, notes)
    except FileNotFoundError:
        if not optional:
            raise
    for file in sorted(Path(path).glob("*")):
        if file.suffix in IMPORTABLE:
            log(f"{file} is no checkpoint yet; convert it: {IMPORT}{file}")
    return None


def identity(start: Start) -> str:
    """Return what must be the same on all workers, as text; the path of the checkpoint may differ."""
    if not isinstance(start, WarmStart):
        return "random weights" if start is None else "the model directory's checkpoint"
    index = Path(f"{start.checkpoint}.index")  # holds a checksum of each variable
    digest = hashlib.sha256((index if index.is_file() else Path(start.checkpoint)).read_bytes()).hexdigest()
    return f"checkpoint of digest {digest[:12]} with {start._replace(checkpoint='', notes=())}"


# settings that give the outputs of a head their meaning
_HEADS = {
    "multibox_head/loc_": ("anchors", "targets.coordinates", "targets.prior_variances"),
    "multibox_head/cls_": ("anchors", "class_names"),
}


def _other_heads(config: Config, checkpoint: str) -> tuple[tuple[str, str], ...]:
    """Return a note for each head, by a part of its name, that was trained for other default boxes or classes.

    It is no error: a head may learn new ones from there.
    """
    folder = str(Path(checkpoint).parent)
    found = {part: config_file.differences(config, folder, settings) for part, settings in _HEADS.items()}
    remedy = "--checkpoint_exclude_scopes=multibox_head starts the heads at random"
    return tuple(
        (part, f"{part}* was trained with other settings: {'; '.join(lists)}; {remedy}")
        for part, lists in found.items()
        if lists
    )

"""Where a training starts from: its own checkpoint, another one (a warm start), or random weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from utility.checkpoints import checkpoint_files
from utility.checkpoints.checkpoint_files import STEP, open_checkpoint, some_of
from utility.config import config_file
from utility.config.settings import Config
from utility.errors import UserError
from utility.files.text_files import shortened
from utility.run.log import log

MISSING = "no counterpart in the checkpoint"
# settings that give the outputs of a head, by a part of its name, their meaning
_HEADS = {
    "multibox_head/loc_": ("anchors", "targets.coordinates", "targets.prior_variances"),
    "multibox_head/cls_": ("anchors", "class_names"),
}
_DETECTOR = "multibox_head/"  # in a variable's name, after the scope of the network


class Assignment(NamedTuple):
    """What happens to one variable of the network when it is initialized from a checkpoint."""

    name: str
    variable: tf.Variable
    source: str | None  # its name in the checkpoint; None: it keeps its random initial value
    reason: str  # why it does


class Scopes(NamedTuple):
    """How names of the network's variables become names in a checkpoint, and which variables are not looked up."""

    checkpoint: str = ""  # scope of the variables in the checkpoint; "" if they have none
    model: str = ""  # of the network's; it is replaced by the other
    exclude: tuple[str, ...] = ()  # a variable with one of these in its name keeps its random initial value
    anew: tuple[tuple[str, str], ...] = ()  # so does one with the first of a pair in its name; the second tells why


def assign(stored: dict[str, list[int]], scopes: Scopes) -> list[Assignment]:
    """Find for each variable of the graph's network the one that fills it, of a checkpoint's: name -> shape."""
    plan = []
    for variable in tf.trainable_variables() + tf.moving_average_variables():  # the latter are batch norm's
        name, shape, reason = variable.op.name, variable.shape.as_list(), ""
        source = next((n for n in names_in_checkpoint(name, scopes) if n in stored), None)
        if excluded := [scope for scope in scopes.exclude if scope in name]:
            reason = f"excluded by --checkpoint_exclude_scopes={excluded[0]}"
        elif others := [why for part, why in scopes.anew if part in name]:
            reason = others[0]
        elif source is None:
            reason = MISSING
        elif stored[source] != shape:
            ours, theirs = (shortened("x".join(map(str, sides))) or "scalar" for sides in (shape, stored[source]))
            reason = f"shape {ours}, in the checkpoint {theirs}"
        plan.append(Assignment(name, variable, None if reason else source, reason))
    return plan


def names_in_checkpoint(name: str, scopes: Scopes) -> tuple[str, str]:
    """Return the names a variable may have there: as in tf.layers, and as in TF-slim's and the reference's VGG."""
    if name.startswith(f"{scopes.model}/"):
        name = f"{scopes.checkpoint}/{name.removeprefix(f'{scopes.model}/')}".lstrip("/")
    layer, slash, kind = name.rpartition("/")
    return name, layer + slash + {"kernel": "weights", "bias": "biases"}.get(kind, kind)


def table(plan: Sequence[Assignment]) -> str:
    """Return a table with a line for the variables of a layer that have the same source or reason, and a summary."""
    lines: list[tuple[str, str, str]] = []
    for name, _, source, reason in plan:
        layer, _, kind = name.rpartition("/")
        what = f"from {source.rpartition('/')[0]}" if source else f"random: {reason}"
        if lines and (lines[-1][0], lines[-1][2]) == (layer, what):
            kind = f"{lines.pop()[1]} {kind}"
        lines.append((layer, kind, what))
    widths = [max((len(line[column]) for line in lines), default=0) for column in (0, 1)]
    rows = [f"  {layer:{widths[0]}}  {kinds:{widths[1]}}  {what}" for layer, kinds, what in lines]
    loaded = sum(assignment.source is not None for assignment in plan)
    at_random = f", {len(plan) - loaded} start at random" if loaded < len(plan) else ""
    return "\n".join([*rows, f"  {loaded} of {len(plan)} variables loaded{at_random}"])


def _scopes_in(stored: Iterable[str]) -> str:
    return shortened(", ".join(sorted({name.split("/")[0] for name in stored if "/" in name}))) or "none"


def check_fits(checkpoint: str, remedy: str = "") -> list[Assignment]:
    """Return the assignment of a checkpoint to the graph's network; a UserError if a variable is missing or differs."""
    stored = open_checkpoint(checkpoint).get_variable_to_shape_map()
    plan = assign(stored, Scopes())
    if unfit := [assignment for assignment in plan if assignment.reason]:
        if not remedy and all(assignment.reason == MISSING for assignment in plan):
            remedy = f"--model_scope must be the scope of its network, one of {_scopes_in(stored)}"
        remedy = remedy or "config.json and labels.txt must be the checkpoint's own, and lie beside it"
        differences = f"{unfit[0].name} has {unfit[0].reason} ({len(unfit)} of {len(plan)} variables differ)"
        raise UserError(f"checkpoint {checkpoint} is of another network: {differences}; {remedy}")
    return plan


def _once_for_all_replicas(load: Callable[..., None]) -> Callable[..., None]:
    """Call a method once where several replicas build the network: in the cross-replica context, with all variables."""

    def once(start: WarmStart | Resume) -> None:
        tf.distribute.get_replica_context().merge_call(lambda strategy: load(start))

    return once


class WarmStart(NamedTuple):
    """A checkpoint to start from when the model directory has none."""

    checkpoint: str  # prefix
    scopes: Scopes
    ignore_missing: bool  # variables that the checkpoint lacks keep their random initial values; else an error
    notes: tuple[tuple[str, str], ...] = ()  # (part of a variable's name, what to log if such a variable is loaded)

    @_once_for_all_replicas
    def load(self) -> None:
        """Initialize the graph's network from the checkpoint, and log a table of all its variables.

        It is called once the network is built and before the optimizer adds its variables. A UserError if no variable
        can be loaded, or if one is missing and `ignore_missing` is off.
        """
        stored = open_checkpoint(self.checkpoint).get_variable_to_shape_map()
        plan = assign(stored, self.scopes)
        log(f"starting from {self.checkpoint}\n{table(plan)}")
        counterparts = {name for assignment in plan for name in names_in_checkpoint(assignment.name, self.scopes)}
        left = sorted(set(stored) - counterparts - {STEP})
        slots = [name for name in left if name.rpartition("/")[0] in stored]
        if slots or STEP in stored:
            log(f"  not taken over: the source's step and {len(slots)} variables of its optimizer")
        if others := [shortened(name) for name in left if name not in slots]:
            log(f"  not in the network: {len(others)} of the checkpoint's variables: {some_of(others)}")
        for scope in self.scopes.exclude:
            if not any(scope in assignment.name for assignment in plan):
                log(f"  note: --checkpoint_exclude_scopes: no variable has '{scope}' in its name")
        for part, note in self.notes:
            if any(part in assignment.name and assignment.source for assignment in plan):
                log(f"  note: {note}")

        loaded = {assignment.source: assignment.variable for assignment in plan if assignment.source}
        if not loaded:
            names = shortened(", ".join(sorted(stored)[:3]))
            raise UserError(
                f"--checkpoint_path={self.checkpoint}: nothing of it was loaded. Its variables are {names}, ...;"
                f" --checkpoint_model_scope={self.scopes.checkpoint} should be one of its scopes"
                f" ({_scopes_in(stored)}), and --checkpoint_exclude_scopes must not leave out all"
            )
        missing = [assignment.name for assignment in plan if assignment.reason == MISSING]
        if missing and not self.ignore_missing:
            remedy = "--ignore_missing_vars leaves them at their random start"
            raise UserError(f"--checkpoint_path={self.checkpoint} lacks {some_of(missing)}; {remedy}")
        tf.train.init_from_checkpoint(self.checkpoint, loaded)


class Resume(NamedTuple):
    """The model directory's own checkpoint, with all of whose variables the Estimator resumes the training."""

    checkpoint: str  # prefix

    @_once_for_all_replicas
    def load(self) -> None:
        """Log a table of the variables; a UserError if they do not fit. The Estimator itself restores them."""
        plan = check_fits(self.checkpoint, "choose another --model_dir, or the settings it was trained with")
        step = checkpoint_files.step_of(self.checkpoint)
        log(f"resuming from {self.checkpoint}, step {step}, with the optimizer's variables\n{table(plan)}")


Start = WarmStart | Resume | None  # None: random weights


def starting_point(
    path: str,
    *,
    optional: bool,
    whole_detector: bool = False,
    scopes: Scopes = Scopes(),  # noqa: B008 (immutable)
    ignore_missing: bool = True,
    model_dir: str | None = None,
    config: Config | None = None,
) -> Start:
    """Return where training starts from: the model directory's checkpoint, or else the one at `path`.

    A checkpoint in the model directory wins, as in the reference. If there is none at `path` and it is `optional`,
    training starts from random weights. The config of the network is compared with the checkpoint's. With
    `whole_detector`, a checkpoint of a detector of this project is loaded whatever the `scopes`: all that fits, but for
    heads that were trained with other classes or default boxes.
    """
    if model_dir and (own := checkpoint_files.newest(model_dir)):
        return Resume(own)
    try:
        checkpoint = checkpoint_files.resolve(path)
    except FileNotFoundError:
        if not optional:
            raise
        for file in sorted(Path(path).glob("*")):
            if file.suffix in checkpoint_files.IMPORTABLE:
                log(f"{file} is no checkpoint yet; convert it: {checkpoint_files.IMPORT}{file}")
        return None
    folder = str(Path(checkpoint).parent)
    changes = {part: config_file.differences(config, folder, its) for part, its in _HEADS.items()} if config else {}
    stored = open_checkpoint(checkpoint).get_variable_to_shape_map()
    if whole_detector and any(name.startswith(f"{scopes.model}/{_DETECTOR}") for name in stored):
        trained = config_file.load(folder)
        names = ("backbone", "depth_multiplier")
        needed = {name: getattr(trained.network, name) for name in names} if trained else {}
        if config and any(getattr(config.network, name) != value for name, value in needed.items()):
            flags = " ".join(f"--{name}={value}" for name, value in needed.items())
            raise UserError(f"--checkpoint_path={path}: that detector was trained with {flags}: give the same")
        log(f"{checkpoint} is a detector: what fits is loaded; heads of other classes or default boxes start anew")
        anew = [(part, f"trained with other {lines[0].split()[0]}") for part, lines in changes.items() if lines]
        return WarmStart(checkpoint, Scopes(scopes.model, scopes.model, anew=tuple(anew)), ignore_missing)
    notes = []
    remedy = "--checkpoint_exclude_scopes=multibox_head starts the heads at random"
    for part, lines in changes.items():
        if lines:  # no error: a head may learn other default boxes or classes from there
            notes.append((part, f"{part}* was trained with other settings: {'; '.join(lines)}; {remedy}"))
    return WarmStart(checkpoint, scopes, ignore_missing, tuple(notes))


def identity(start: Start) -> str:
    """Return what must be the same on all workers, as text; the path of the checkpoint may differ."""
    if not isinstance(start, WarmStart):
        return "random weights" if start is None else "the model directory's checkpoint"
    index = Path(f"{start.checkpoint}.index")  # holds a checksum of each variable
    digest = hashlib.sha256((index if index.is_file() else Path(start.checkpoint)).read_bytes()).hexdigest()
    return f"checkpoint of digest {digest[:12]} with {start._replace(checkpoint='', notes=())}"

"""Where a training starts from: its own checkpoint, another one (a warm start), or random weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from utility.checkpoints.checkpoint_files import (
    IMPORT,
    IMPORTABLE,
    SHOWN,
    newest,
    open_checkpoint,
    resolve,
    stored_step,
)
from utility.config import config_file
from utility.config.settings import Config
from utility.errors import UserError
from utility.files.text_files import shortened
from utility.run.log import log

# Which variable of a checkpoint fills which variable of the network.

MISSING = "no counterpart in the checkpoint"


class Assignment(NamedTuple):
    """What happens to one variable of the network when it is initialized from a checkpoint."""

    name: str
    variable: tf.Variable
    source: str | None  # its name in the checkpoint; None: it keeps its random initial value
    reason: str = ""  # why it does


class Scopes(NamedTuple):
    """How names of the network's variables become names in a checkpoint, and which variables are not looked up."""

    checkpoint: str = ""  # scope of the variables in the checkpoint; "" if they have none
    model: str = ""  # of the network's; it is replaced by the other
    exclude: tuple[str, ...] = ()  # a variable with one of these in its name keeps its random initial value


def assign(
    stored: dict[str, list[int]],
    variables: Iterable[tf.Variable],
    scopes: Scopes = Scopes(),  # noqa: B008 (immutable)
) -> list[Assignment]:
    """Find for each of the network's variables the one in a checkpoint that fills it.

    Args:
      stored: name -> shape of the checkpoint's variables.
      variables: of the network.
      scopes: how their names translate.
    """
    plan = []
    for variable in variables:
        name = variable.op.name
        source = next((n for n in names_in_checkpoint(name, scopes) if n in stored), None)
        excluded = next((scope for scope in scopes.exclude if scope in name), None)
        if excluded:
            plan.append(Assignment(name, variable, None, f"excluded by --checkpoint_exclude_scopes={excluded}"))
        elif source is None:
            plan.append(Assignment(name, variable, None, MISSING))
        elif stored[source] != variable.shape.as_list():
            shapes = f"shape {_shape(variable.shape.as_list())}, in the checkpoint {_shape(stored[source])}"
            plan.append(Assignment(name, variable, None, shapes))
        else:
            plan.append(Assignment(name, variable, source))
    return plan


def names_in_checkpoint(name: str, scopes: Scopes) -> tuple[str, str]:
    """Return the names a variable may have there: as in tf.layers, and as in TF-slim's and the reference's VGG."""
    translated = name
    if name.startswith(f"{scopes.model}/"):
        translated = f"{scopes.checkpoint}/{name.removeprefix(f'{scopes.model}/')}".lstrip("/")
    for ending, slim in (("/kernel", "/weights"), ("/bias", "/biases")):
        if translated.endswith(ending):
            return translated, translated.removesuffix(ending) + slim
    return translated, translated


def network_variables() -> list[tf.Variable]:
    """Return the graph's variables that belong to the network: trainable ones, and batch norm's moving averages."""
    return tf.trainable_variables() + tf.moving_average_variables()


def once_for_all_replicas(load: Callable[[], None]) -> None:
    """Call `load` once where several replicas build the network: in the cross-replica context, with their variables."""
    replica = tf.distribute.get_replica_context()
    if replica is None:
        load()
    else:
        replica.merge_call(lambda strategy: load())


def scopes_in(stored: Iterable[str]) -> str:
    """Return the outermost scopes of some variables, for a message."""
    return shortened(", ".join(sorted({name.split("/")[0] for name in stored if "/" in name}))) or "none"


def check_fits(checkpoint: str) -> list[Assignment]:
    """Return the assignment of a checkpoint to the graph's network.

    A UserError if a variable of the network is missing in it or has another shape.
    """
    stored = open_checkpoint(checkpoint).get_variable_to_shape_map()
    plan = assign(stored, network_variables())
    unfilled = unassigned(plan)
    if unfilled:
        remedy = "config.json and labels.txt must be the checkpoint's own, and lie beside it"
        if all(assignment.reason == MISSING for assignment in plan):
            remedy = f"--model_scope must be the scope of its network, one of {scopes_in(stored)}"
        raise UserError(
            f"checkpoint {checkpoint} is of another network: {unfilled[0].name} has {unfilled[0].reason}"
            f" ({len(unfilled)} of {len(plan)} variables differ); {remedy}"
        )
    return plan


def unassigned(plan: Sequence[Assignment]) -> list[Assignment]:
    """Return the assignments without a source."""
    return [assignment for assignment in plan if not assignment.source]


def table(plan: Sequence[Assignment]) -> str:
    """Return a table with a line for the variables of a layer that have the same source or reason, and a summary."""
    lines = [
        (layer, " ".join(assignment.name.rpartition("/")[2] for assignment in assignments), what)
        for (layer, what), assignments in _by_layer(plan)
    ]
    widths = [max((len(line[column]) for line in lines), default=0) for column in (0, 1)]
    rows = [f"  {layer:{widths[0]}}  {names:{widths[1]}}  {what}" for layer, names, what in lines]
    loaded = sum(assignment.source is not None for assignment in plan)
    at_random = f", {len(plan) - loaded} start at random" if loaded < len(plan) else ""
    return "\n".join([*rows, f"  {loaded} of {len(plan)} variables loaded{at_random}"])


def _by_layer(plan: Sequence[Assignment]) -> list[tuple[tuple[str, str], list[Assignment]]]:
    def key(assignment: Assignment) -> tuple[str, str]:
        if assignment.source is None:
            return assignment.name.rpartition("/")[0], f"random: {assignment.reason}"
        return assignment.name.rpartition("/")[0], f"from {assignment.source.rpartition('/')[0]}"

    return [(layer, list(assignments)) for layer, assignments in groupby(plan, key)]


def _shape(shape: Sequence[int]) -> str:
    return shortened("x".join(map(str, shape))) or "scalar"


# A warm start: training from the weights of another checkpoint.


class WarmStart(NamedTuple):
    """A checkpoint to start from when the model directory has none.

    `load` is called once the network is built and before the optimizer adds its variables.
    """

    checkpoint: str  # prefix
    scopes: Scopes
    ignore_missing: bool  # variables that the checkpoint lacks keep their random initial values; else an error
    notes: tuple[tuple[str, str], ...] = ()  # (part of a variable's name, what to log if such a variable is loaded)

    def load(self) -> None:
        """Initialize the graph's network from the checkpoint, and log a table of all its variables.

        Raises:
            UserError: no variable can be loaded; one is missing and `ignore_missing` is off; or the checkpoint is
                damaged.
        """
        once_for_all_replicas(self._load)

    def _load(self) -> None:
        stored = open_checkpoint(self.checkpoint).get_variable_to_shape_map()
        plan = assign(stored, network_variables(), self.scopes)
        log(f"starting from {self.checkpoint}\n{table(plan)}{_unused(self, plan, stored)}")
        for scope in self.scopes.exclude:
            if not any(scope in assignment.name for assignment in plan):
                log(f"  note: --checkpoint_exclude_scopes: no variable has '{scope}' in its name")
        for part, note in self.notes:
            if any(part in assignment.name and assignment.source for assignment in plan):
                log(f"  note: {note}")
        loaded = {assignment.source: assignment.variable for assignment in plan if assignment.source}
        if not loaded:
            raise UserError(_nothing_fits(self, stored))
        missing = [assignment.name for assignment in plan if assignment.reason == MISSING]
        if missing and not self.ignore_missing:
            raise UserError(
                f"--checkpoint_path={self.checkpoint} lacks {', '.join(missing[:SHOWN])}"
                f"{', ...' * (len(missing) > SHOWN)}; --ignore_missing_vars leaves them at their random start"
            )
        tf.train.init_from_checkpoint(self.checkpoint, loaded)


def _nothing_fits(start: WarmStart, stored: dict[str, list[int]]) -> str:
    names = shortened(", ".join(sorted(stored)[:3]))
    return (
        f"--checkpoint_path={start.checkpoint}: nothing of it was loaded. Its variables are {names}, ...;"
        f" --checkpoint_model_scope={start.scopes.checkpoint} should be one of its scopes ({scopes_in(stored)}), and"
        " --checkpoint_exclude_scopes must not leave out all"
    )


def _unused(start: WarmStart, plan: Sequence[Assignment], stored: dict[str, list[int]]) -> str:
    """Return lines on the checkpoint's variables that are not used: optimizer slots, the step, and unknown ones."""
    counterparts = {name for assignment in plan for name in names_in_checkpoint(assignment.name, start.scopes)}
    left = sorted(set(stored) - counterparts - {"global_step"})
    slots = [name for name in left if name.rpartition("/")[0] in stored]
    others = [name for name in left if name not in slots]
    lines = []
    if slots or "global_step" in stored:
        lines.append(f"  not taken over: the source's step and {len(slots)} variables of its optimizer")
    if others:
        names = ", ".join(map(shortened, others[:SHOWN])) + ", ..." * (len(others) > SHOWN)
        lines.append(f"  not in the network: {len(others)} of the checkpoint's variables: {names}")
    return "".join(f"\n{line}" for line in lines)


class Resume(NamedTuple):
    """The model directory's own checkpoint, from which the Estimator goes on with all of its variables."""

    checkpoint: str  # prefix

    def load(self) -> None:
        """Log a table of the variables, and check that they fit; the Estimator itself restores them.

        Raises:
            UserError: the checkpoint is damaged, or of another network.
        """
        once_for_all_replicas(self._check)

    def _check(self) -> None:
        reader = open_checkpoint(self.checkpoint)
        stored = reader.get_variable_to_shape_map()
        plan = assign(stored, network_variables())
        unfit = unassigned(plan)
        if unfit:
            raise UserError(
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

"""Starting from a checkpoint: mapping its names to the network's, loading it, and saying what was loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf

from utility import config_file
from utility.checkpoints import IMPORT, IMPORTABLE, SHOWN, newest, open_checkpoint, resolve
from utility.config import Config
from utility.runtime import log

# --- planning what is loaded -------------------------------------------------------------------------------


class Fate(NamedTuple):
    """What a start does with one variable of the network."""

    name: str
    variable: tf.Variable
    source: str | None  # its name in the checkpoint, or None: it keeps its random start
    reason: str = ""  # why it does


class WarmStart(NamedTuple):
    """Where training starts from when the model directory has no checkpoint of its own.

    `load` is called once the network stands and before the optimizer adds its variables.
    """

    checkpoint: str  # prefix
    checkpoint_scope: str  # of the variables in it; "" if they have none
    model_scope: str  # of the network's
    exclude_scopes: tuple[str, ...]  # a variable with one of these in its name is left at its random start
    ignore_missing: bool  # variables that the checkpoint lacks likewise; else they are an error
    notes: tuple[tuple[str, str], ...] = ()  # (part of a variable's name, what to say if such a one is loaded)

    def load(self) -> None:
        """Make the graph's trainable variables start from the checkpoint, and log a table of all of them.

        Raises:
            ValueError: no variable can be loaded, one is missing that must not be, or the checkpoint is damaged.
        """
        _in_all_replicas(self._load)

    def _load(self) -> None:
        stored = open_checkpoint(self.checkpoint).get_variable_to_shape_map()
        plan = plan_warm_start(self, stored, _network_variables())
        log(f"starting from {self.checkpoint}\n{table(plan)}{_unused(self, plan, stored)}")
        for scope in self.exclude_scopes:
            if not any(scope in fate.name for fate in plan):
                log(f"  note: --checkpoint_exclude_scopes: no variable has '{scope}' in its name")
        for part, note in self.notes:
            if any(part in fate.name and fate.source for fate in plan):
                log(f"  note: {note}")
        loaded = {fate.source: fate.variable for fate in plan if fate.source}
        if not loaded:
            raise ValueError(_nothing_fits(self, stored))
        missing = [fate.name for fate in plan if fate.reason == _MISSING]
        if missing and not self.ignore_missing:
            raise ValueError(
                f"--checkpoint_path={self.checkpoint} lacks {', '.join(missing[:SHOWN])}"
                f"{', ...' * (len(missing) > SHOWN)}; --ignore_missing_vars leaves them at their random start"
            )
        tf.train.init_from_checkpoint(self.checkpoint, loaded)


_MISSING = "no counterpart in the checkpoint"


def plan_warm_start(start: WarmStart, stored: dict[str, list[int]], variables: Iterable[tf.Variable]) -> list[Fate]:
    """Decide for each of the network's variables whether `stored` (name -> shape, of a checkpoint) can fill it."""
    plan = []
    for variable in variables:
        name = variable.op.name
        source = next((n for n in _names_in_checkpoint(name, start) if n in stored), None)
        excluded = next((scope for scope in start.exclude_scopes if scope in name), None)
        if excluded:
            plan.append(Fate(name, variable, None, f"excluded by --checkpoint_exclude_scopes={excluded}"))
        elif source is None:
            plan.append(Fate(name, variable, None, _MISSING))
        elif stored[source] != variable.shape.as_list():
            shapes = f"shape {_shape(variable.shape.as_list())}, in the checkpoint {_shape(stored[source])}"
            plan.append(Fate(name, variable, None, shapes))
        else:
            plan.append(Fate(name, variable, source))
    return plan


def _names_in_checkpoint(name: str, start: WarmStart) -> tuple[str, str]:
    """Return the names a variable may have there: as in tf.layers, and as in TF-slim's and the reference's VGG."""
    moved = name
    if name.startswith(f"{start.model_scope}/"):
        moved = f"{start.checkpoint_scope}/{name.removeprefix(f'{start.model_scope}/')}".lstrip("/")
    for ending, slim in (("/kernel", "/weights"), ("/bias", "/biases")):
        if moved.endswith(ending):
            return moved, moved.removesuffix(ending) + slim
    return moved, moved


def _network_variables() -> list[tf.Variable]:
    """Return what the network consists of: what is trained, and batch norm's moving averages."""
    return tf.trainable_variables() + tf.moving_average_variables()


def _in_all_replicas(load: Callable[[], None]) -> None:
    """Call `load` once, however many GPUs build the same network; it then sees the variables that they share."""
    replica = tf.distribute.get_replica_context()
    if replica is None:
        load()
    else:
        replica.merge_call(lambda strategy: load())


def _nothing_fits(start: WarmStart, stored: dict[str, list[int]]) -> str:
    return (
        f"--checkpoint_path={start.checkpoint}: nothing of it was loaded. Its variables are"
        f" {', '.join(sorted(stored)[:3])}, ...; --checkpoint_model_scope={start.checkpoint_scope} should be one"
        f" of its scopes ({_scopes(stored)}), and --checkpoint_exclude_scopes must not leave out all"
    )


def _scopes(stored: Iterable[str]) -> str:
    return ", ".join(sorted({name.split("/")[0] for name in stored if "/" in name})) or "none"


# --- going on from a checkpoint ----------------------------------------------------------------------------


def check_fits(checkpoint: str) -> list[Fate]:
    """Tell which of a checkpoint's variables are the network's; ValueError if one is missing or of another shape."""
    stored = open_checkpoint(checkpoint).get_variable_to_shape_map()
    plan = plan_warm_start(_unchanged(checkpoint), stored, _network_variables())
    unfit = _unfit(plan)
    if unfit:
        remedy = "config.json and labels.txt must be the checkpoint's own, and lie beside it"
        if all(fate.reason == _MISSING for fate in plan):
            remedy = f"--model_scope must be the scope of its network, one of {_scopes(stored)}"
        raise ValueError(
            f"checkpoint {checkpoint} is of another network: {unfit[0].name} has {unfit[0].reason} ({len(unfit)} of"
            f" {len(plan)} variables differ); {remedy}"
        )
    return plan


def _unchanged(checkpoint: str) -> WarmStart:
    return WarmStart(checkpoint, "", "", (), False)


def _unfit(plan: Sequence[Fate]) -> list[Fate]:
    return [fate for fate in plan if not fate.source]


class Resume(NamedTuple):
    """The model directory's own checkpoint, from which the Estimator goes on with all of its variables."""

    checkpoint: str  # prefix

    def load(self) -> None:
        """Log a table of what goes on, and check that it fits: the Estimator restores it by itself.

        Raises:
            ValueError: the checkpoint is damaged, or of another network.
        """
        _in_all_replicas(self._check)

    def _check(self) -> None:
        reader = open_checkpoint(self.checkpoint)
        stored = reader.get_variable_to_shape_map()
        plan = plan_warm_start(_unchanged(self.checkpoint), stored, _network_variables())
        unfit = _unfit(plan)
        if unfit:
            raise ValueError(
                f"--model_dir={Path(self.checkpoint).parent} has a checkpoint of another network,"
                f" {Path(self.checkpoint).name}: {unfit[0].name} has {unfit[0].reason} ({len(unfit)} variables"
                " differ); choose another --model_dir, or the settings it was trained with"
            )
        step = f", step {reader.get_tensor('global_step')}" if "global_step" in stored else ""
        log(f"going on from {self.checkpoint}{step}, with the optimizer's variables\n{table(plan)}")


def starting_point(
    path: str, *, optional: bool, model_dir: str | None = None, config: Config | None = None, **settings: Any
) -> WarmStart | Resume | None:
    """Return where training starts from: the model directory's checkpoint, or else the one at `path`.

    Args:
      path: a checkpoint or its folder.
      optional: whether there may be none; then None is returned, and training starts from random weights.
      model_dir: where a checkpoint wins over `path`, as in the reference.
      config: of the network, to be held against the checkpoint's.
      settings: what else WarmStart holds.
    """
    own = newest(model_dir) if model_dir else None
    if own:
        return Resume(own)
    try:
        checkpoint = resolve(path)
        return WarmStart(checkpoint, **settings, notes=_other_heads(config, checkpoint) if config else ())
    except FileNotFoundError:
        if not optional:
            raise
    for file in sorted(Path(path).glob("*")):
        if file.suffix in IMPORTABLE:
            log(f"{file} is no checkpoint yet; convert it: {IMPORT}{file}")
    return None


def identity(start: WarmStart | Resume | None) -> str:
    """Return what must be alike on machines that start together; where the files lie on each may differ."""
    if not isinstance(start, WarmStart):
        return "random weights" if start is None else "the model directory's checkpoint"
    index = Path(f"{start.checkpoint}.index")  # holds a checksum of each variable
    digest = hashlib.sha256((index if index.is_file() else Path(start.checkpoint)).read_bytes()).hexdigest()
    return f"checkpoint of digest {digest[:12]} with {start._replace(checkpoint='', notes=())}"


# what the numbers of a head mean
_HEADS = {
    "multibox_head/loc_": ("anchors", "targets.coordinates", "targets.prior_variances"),
    "multibox_head/cls_": ("anchors", "class_names"),
}


def _other_heads(config: Config, checkpoint: str) -> tuple[tuple[str, str], ...]:
    """Return for each head, by a part of its name, that it was trained for other boxes or classes, if it was.

    To start from it nevertheless may be meant: it learns the new ones.
    """
    folder = str(Path(checkpoint).parent)
    found = {part: config_file.differences(config, folder, settings) for part, settings in _HEADS.items()}
    remedy = "--checkpoint_exclude_scopes=multibox_head starts the heads at random"
    return tuple(
        (part, f"{part}* was trained with other settings: {'; '.join(lists)}; {remedy}")
        for part, lists in found.items()
        if lists
    )


# --- saying it ---------------------------------------------------------------------------------------------


def table(plan: Sequence[Fate]) -> str:
    """Return a line for each layer, the variables of it that share a fate together, and a summary."""
    lines = [
        (layer, " ".join(fate.name.rpartition("/")[2] for fate in fates), what)
        for (layer, what), fates in _by_layer(plan)
    ]
    widths = [max((len(line[column]) for line in lines), default=0) for column in (0, 1)]
    rows = [f"  {layer:{widths[0]}}  {names:{widths[1]}}  {what}" for layer, names, what in lines]
    loaded = sum(fate.source is not None for fate in plan)
    at_random = f", {len(plan) - loaded} start at random" if loaded < len(plan) else ""
    return "\n".join([*rows, f"  {loaded} of {len(plan)} variables loaded{at_random}"])


def _by_layer(plan: Sequence[Fate]) -> list[tuple[tuple[str, str], list[Fate]]]:
    def key(fate: Fate) -> tuple[str, str]:
        if fate.source is None:
            return fate.name.rpartition("/")[0], f"random: {fate.reason}"
        return fate.name.rpartition("/")[0], f"from {fate.source.rpartition('/')[0]}"

    return [(layer, list(fates)) for layer, fates in groupby(plan, key)]


def _unused(start: WarmStart, plan: Sequence[Fate], stored: dict[str, list[int]]) -> str:
    """Say what of the checkpoint is left: the optimizer's variables, the step, and what the network has not."""
    counterparts = {name for fate in plan for name in _names_in_checkpoint(fate.name, start)}
    left = sorted(set(stored) - counterparts - {"global_step"})
    slots = [name for name in left if name.rpartition("/")[0] in stored]
    others = [name for name in left if name not in slots]
    lines = []
    if slots or "global_step" in stored:
        lines.append(f"  not taken over: the source's step and {len(slots)} variables of its optimizer")
    if others:
        names = ", ".join(others[:SHOWN]) + ", ..." * (len(others) > SHOWN)
        lines.append(f"  not in the network: {len(others)} of the checkpoint's variables: {names}")
    return "".join(f"\n{line}" for line in lines)


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"

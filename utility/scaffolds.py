"""Checkpoints: finding one, mapping its names to the network's, starting from it, and saying what was loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf

from utility.runtime import log

_TABLE_MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")  # the end of a LevelDB table: a V1 file, or a V2 index
_IMPORTABLE = (".h5", ".hdf5", ".pth", ".pt", ".caffemodel")
_IMPORT = "python model/import_weights.py --source="
_SHOWN = 8  # names of files in a message


# --- finding a checkpoint ----------------------------------------------------------------------------------


def resolve(path: str) -> str:
    """Return the prefix of the checkpoint at `path`: a folder (its newest), a prefix, or one of its files.

    Raises:
        FileNotFoundError: there is no checkpoint; the message tells what is there instead.
        ValueError: a folder holds several without telling which is the newest, or a checkpoint lacks its data.
    """
    prefix = _newest(Path(path)) if Path(path).is_dir() else _prefix(path)
    if not is_checkpoint(prefix):
        raise FileNotFoundError(f"there is no checkpoint {path}{what_is_there(path)}")
    if not _has_data(prefix):
        raise ValueError(f"checkpoint {prefix} is not complete: {Path(prefix).name}.data-* must lie beside its .index")
    return prefix


def is_checkpoint(path: str) -> bool:
    """Tell whether `path` is the prefix or a file of a checkpoint, in TensorFlow's format V2 or V1."""
    prefix = Path(_prefix(path))
    if Path(f"{prefix}.index").is_file():
        return True
    if not prefix.is_file() or prefix.stat().st_size < len(_TABLE_MAGIC):
        return False
    with prefix.open("rb") as file:  # V1 is one file without a suffix of its own
        file.seek(-len(_TABLE_MAGIC), 2)
        return file.read() == _TABLE_MAGIC


def what_is_there(path: str) -> str:
    """Return the end of a message about a missing file: what its folder holds, or that there is no such folder."""
    target = Path(path)
    if target.is_file():
        importable = target.suffix in _IMPORTABLE
        return f": that file is none{f'; convert it: {_IMPORT}{path}' if importable else ''}"
    folder = target if target.is_dir() else target.parent
    if not folder.is_dir():
        return f": the folder {folder} does not exist"
    names = [entry.name for entry in folder.iterdir() if not entry.name.startswith((".", "__"))]
    names = [name for name in names if ".data-" not in name]  # an .index tells of a checkpoint already
    names.sort(key=lambda name: (not name.endswith(".index"), name))
    shown = ", ".join(names[:_SHOWN]) + ", ..." * (len(names) > _SHOWN)
    return f"; {folder} holds {shown}" if names else f"; {folder} is empty"


def _prefix(path: str) -> str:
    return path.removesuffix(".index").removesuffix(".meta").split(".data-")[0]


def _newest(folder: Path) -> str:
    """Return the prefix of a folder's newest checkpoint: the one its `checkpoint` file names, or the only one.

    That file may hold the absolute path of another folder or machine, from which this one was copied.
    """
    state = tf.train.get_checkpoint_state(str(folder))
    if state:
        for named in (str(folder / Path(state.model_checkpoint_path).name), state.model_checkpoint_path):
            if is_checkpoint(named):
                return named
    there = sorted(folder.glob("*.index"))
    if len(there) > 1:
        names = ", ".join(str(index.with_suffix("")) for index in there[:_SHOWN])
        raise ValueError(f"{folder} holds {len(there)} checkpoints and no note of the newest; name one: {names}")
    if not there:
        raise FileNotFoundError(f"{folder} has no checkpoint{what_is_there(str(folder))}")
    return str(there[0].with_suffix(""))


def _has_data(prefix: str) -> bool:
    """Tell whether all data files lie beside a V2 index: name.data-00000-of-00002 and so on."""
    if not Path(f"{prefix}.index").is_file():
        return True
    parts = [path.name for path in Path(prefix).parent.glob(f"{Path(prefix).name}.data-*-of-*")]
    return bool(parts) and len(parts) == int(parts[0].rpartition("-of-")[2])


def open_checkpoint(prefix: str) -> tf.train.NewCheckpointReader:
    """Return a reader of a checkpoint; a ValueError if it is damaged."""
    try:
        return tf.train.load_checkpoint(prefix)
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise ValueError(f"checkpoint {prefix} cannot be read: {str(error).splitlines()[0]}") from error


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
        loaded = {fate.source: fate.variable for fate in plan if fate.source}
        if not loaded:
            raise ValueError(_nothing_fits(self, stored))
        missing = [fate.name for fate in plan if fate.reason == _MISSING]
        if missing and not self.ignore_missing:
            raise ValueError(
                f"--checkpoint_path={self.checkpoint} lacks {', '.join(missing[:_SHOWN])}"
                f"{', ...' * (len(missing) > _SHOWN)}; --ignore_missing_vars leaves them at their random start"
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
    scopes = sorted({name.split("/")[0] for name in stored if "/" in name})
    return (
        f"--checkpoint_path={start.checkpoint}: nothing of it was loaded. Its variables are"
        f" {', '.join(sorted(stored)[:3])}, ...; --checkpoint_model_scope={start.checkpoint_scope} should be one"
        f" of its scopes ({', '.join(scopes) or 'none'}), and --checkpoint_exclude_scopes must not leave out all"
    )


# --- going on from a checkpoint ----------------------------------------------------------------------------


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
        plan = plan_warm_start(WarmStart(self.checkpoint, "", "", (), False), stored, _network_variables())
        unfit = [fate for fate in plan if not fate.source]
        if unfit:
            raise ValueError(
                f"--model_dir={Path(self.checkpoint).parent} has a checkpoint of another network,"
                f" {Path(self.checkpoint).name}: {unfit[0].name} has {unfit[0].reason} ({len(unfit)} variables"
                " differ); choose another --model_dir, or the settings it was trained with"
            )
        step = f", step {reader.get_tensor('global_step')}" if "global_step" in stored else ""
        log(f"going on from {self.checkpoint}{step}, with the optimizer's variables\n{table(plan)}")


def starting_point(
    path: str, *, optional: bool, model_dir: str | None = None, **settings: Any
) -> WarmStart | Resume | None:
    """Return where training starts from: the model directory's checkpoint, or else the one at `path`.

    Args:
      path: a checkpoint or its folder.
      optional: whether there may be none; then None is returned, and training starts from random weights.
      model_dir: where a checkpoint wins over `path`, as in the reference.
      settings: what else WarmStart holds.
    """
    newest = tf.train.latest_checkpoint(model_dir) if model_dir else None  # the one that the Estimator takes
    if newest:
        return Resume(newest)
    try:
        return WarmStart(resolve(path), **settings)
    except FileNotFoundError:
        if not optional:
            raise
    for file in sorted(Path(path).glob("*")):
        if file.suffix in _IMPORTABLE:
            log(f"{file} is no checkpoint yet; convert it: {_IMPORT}{file}")
    return None


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
        names = ", ".join(others[:_SHOWN]) + ", ..." * (len(others) > _SHOWN)
        lines.append(f"  not in the network: {len(others)} of the checkpoint's variables: {names}")
    return "".join(f"\n{line}" for line in lines)


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"

"""How a training is laid out over devices and machines: replicas, their share of a batch, and their share of the data.

A `RunLayout` is made once for a run. The input function, the distribution strategy, gradient accumulation, the log and
the check that all workers agree take their numbers from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from utility.config.settings import BACKBONES, Config
from utility.errors import UserError
from utility.run.cluster import Task


@dataclass(frozen=True)
class DataShard:
    """The part of the training stream that one worker reads: element `index` of every `stride` in these files."""

    files: tuple[str, ...]
    images: int  # of an epoch over these files
    stride: int
    index: int

    def __str__(self) -> str:
        """Return it as the log has it."""
        part = f"image {self.index + 1} of every {self.stride} in " if self.stride > 1 else ""
        return f"{part}{len(self.files)} record file{'s' * (len(self.files) != 1)}"


@dataclass(frozen=True)
class RunLayout:
    """Which devices train, on how many machines, and how a batch is divided among them.

    A UserError names --batch_size if the replicas and their parts do not divide the batch equally.
    """

    batch_size: int  # images of a step, over all replicas
    devices: tuple[str, ...] = ()  # of this worker, such as ("/gpu:0", "/gpu:1"), a replica each; (): one on the CPU
    accumulate_steps: int = 1  # equal parts in which a replica computes its images, one after the other
    task: Task | None = None  # this worker's place in the cluster; None: the run has one process

    @property
    def trains(self) -> bool:
        """Whether this process trains; an evaluator does not, and has no images of a batch and no shard of the data."""
        return self.task is None or not self.task.evaluates

    @property
    def workers(self) -> int:
        """Number of processes that train together."""
        return len(self.task.trainers) if self.task else 1

    @property
    def worker(self) -> int:
        """Rank of this process among them, from 0; the chief is 0."""
        return self.task.rank if self.task else 0

    @property
    def replicas(self) -> int:
        """Number of replicas of the network, over all workers; every worker has as many."""
        return max(len(self.devices), 1) * self.workers

    @property
    def per_replica_batch_size(self) -> int:
        """Images of a step that one replica computes."""
        return self.batch_size // self.replicas

    def __post_init__(self) -> None:
        if self.trains and self.batch_size % self._pieces:
            raise UserError(
                f"--batch_size={self.batch_size}: must be a multiple of the {self._divisors}: {self._pieces}"
                f"{'; --nomulti_gpu takes one GPU of a machine' if self.replicas > 1 else ''}"
            )

    @classmethod
    def of(
        cls, config: Config, devices: tuple[str, ...] = (), accumulate_steps: int = 1, task: Task | None = None
    ) -> RunLayout:
        """Return the layout of a training with this config; a UserError also if its batch norm needs more images.

        With one image at a time, a 1x1 map equals its batch mean, and batch norm makes it 0.
        """
        layout = cls(config.schedule.batch_size, devices, accumulate_steps, task)
        batch_norm = BACKBONES[config.network.backbone].batch_norm
        if batch_norm and layout.trains and layout.batch_size < 2 * layout._pieces:
            shared = f", shared by the {layout._divisors}," if layout._divisors else ""
            raise UserError(
                f"--batch_size={layout.batch_size}{shared} gives batch norm one image at a time:"
                f" take {2 * layout._pieces} or more"
            )
        return layout

    @property
    def _pieces(self) -> int:
        """Number of equal pieces that a batch is computed in."""
        return self.replicas * self.accumulate_steps

    @property
    def _divisors(self) -> str:
        """What divides a batch, for an error."""
        of_workers = f" devices of {self.workers} workers" if self.task else " GPUs"
        devices = [f"{self.replicas}{of_workers}"] if self.replicas > 1 else []
        parts = [f"--accumulate_steps={self.accumulate_steps}"] if self.accumulate_steps > 1 else []
        return " times ".join(devices + parts)

    def data_shard(self, images: Mapping[str, int]) -> DataShard:
        """Return what this worker reads of the record files, given the images of each.

        If the files divide evenly among the workers and hold nearly equal numbers of images, as the converter writes
        them, each worker reads files of its own. Otherwise the images of a short file would be seen more often: then
        all workers read all files in the same order, and each takes every n-th image.
        """
        files, workers = tuple(images), self.workers
        own = [files[worker::workers] for worker in range(workers)]
        counts = [sum(images[file] for file in part) for part in own]
        even = len(files) % workers == 0 and min(counts) > 0 and max(counts) <= min(counts) + len(files)
        if workers == 1 or even:
            return DataShard(own[self.worker], counts[self.worker], 1, 0)
        return DataShard(files, sum(counts), workers, self.worker)

    def __str__(self) -> str:
        """Return it as the log has it: `batches of 64 on 4 GPU(s) of each of 2 workers, 8 images a replica`."""
        devices = f"{len(self.devices)} GPU(s)" if self.devices else "the CPU"
        workers = f" of each of {self.workers} workers" if self.task else ""
        share = f", {self.per_replica_batch_size} images a replica" if self.replicas > 1 else ""
        parts = f" in {self.accumulate_steps} parts" if self.accumulate_steps > 1 else ""
        return f"batches of {self.batch_size} on {devices}{workers}{share}{parts}"

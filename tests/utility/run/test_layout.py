"""How a run is laid out: what cannot be divided is refused, and every worker reads its part of the images."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders.configs import voc_config
from utility.run.cluster import Task
from utility.run.layout import RunLayout


def task(worker, workers):
    return Task("worker", worker, {"worker": [f"host{number}:1" for number in range(workers)]})


def gpus(number):
    return tuple(f"/gpu:{index}" for index in range(number))


def test_one_process_on_the_cpu():
    layout = RunLayout(8)
    assert (layout.workers, layout.worker, layout.replicas, layout.per_replica_batch_size) == (1, 0, 1, 8)


def test_every_worker_has_as_many_replicas():
    layout = RunLayout(24, gpus(2), task=task(2, 3))
    assert (layout.workers, layout.worker, layout.replicas, layout.per_replica_batch_size) == (3, 2, 6, 4)


def test_a_batch_that_cannot_be_shared_is_an_error():
    with pytest.raises(ValueError, match="--batch_size=4: must be a multiple of the 3 devices of 3 workers"):
        RunLayout(4, task=task(0, 3))
    with pytest.raises(ValueError, match="--batch_size=4: must be a multiple of the 3 GPUs: 3; --nomulti_gpu"):
        RunLayout(4, gpus(3))
    with pytest.raises(ValueError, match=r"--batch_size=4: must be a multiple of the --accumulate_steps=3: 3$"):
        RunLayout(4, accumulate_steps=3)
    with pytest.raises(ValueError, match="multiple of the 2 GPUs times --accumulate_steps=4: 8"):
        RunLayout(4, gpus(2), 4)


def test_batch_norm_needs_two_images_at_a_time():
    normalized = voc_config(schedule__batch_size=4, network__backbone="mobilenet_v1")
    RunLayout.of(normalized, gpus(2))
    RunLayout.of(voc_config(schedule__batch_size=4), gpus(4))
    with pytest.raises(ValueError, match="--batch_size=4, shared by the 4 GPUs, gives batch norm one image at a time"):
        RunLayout.of(normalized, gpus(4))
    with pytest.raises(ValueError, match="--batch_size=1 gives batch norm one image at a time: take 2 or more"):
        RunLayout.of(normalized.replace({"schedule.batch_size": 1}))


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        (RunLayout(8), "batches of 8 on the CPU"),
        (RunLayout(8, gpus(1)), "batches of 8 on 1 GPU(s)"),
        (RunLayout(32, gpus(4)), "batches of 32 on 4 GPU(s), 8 images a replica"),
        (RunLayout(32, gpus(1), 4), "batches of 32 on 1 GPU(s) in 4 parts"),
        (RunLayout(64, gpus(4), task=task(1, 2)), "batches of 64 on 4 GPU(s) of each of 2 workers, 8 images a replica"),
        (
            RunLayout(64, gpus(4), 2, task(1, 2)),
            "batches of 64 on 4 GPU(s) of each of 2 workers, 8 images a replica in 2 parts",
        ),
    ],
)
def test_the_log_names_devices_workers_and_parts(layout, text):
    assert str(layout) == text


def shards_of(workers, counts):
    images = {f"file{number}": count for number, count in enumerate(counts)}
    return [RunLayout(workers, task=task(worker, workers)).data_shard(images) for worker in range(workers)]


def images_read(shard, counts, length):
    """The first `length` images, as (file, number), that a worker reads, if files are read one after the other."""
    epoch = [(name, number) for name in shard.files for number in range(counts[int(name.removeprefix("file"))])]
    stream = itertools.islice(itertools.cycle(epoch), shard.index, None, shard.stride)
    assert shard.images == len(epoch)
    return list(itertools.islice(stream, length))


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 4), st.lists(st.integers(0, 6), min_size=1, max_size=8).filter(any))
def test_workers_together_read_each_image_equally_often(workers, counts):
    """Over as many epochs as there are workers; with files of their own, as far as these are of equal length."""
    total = sum(counts)
    shards = shards_of(workers, counts)
    own = [[f"file{number}" for number in range(len(counts))][worker::workers] for worker in range(workers)]
    lengths = [sum(counts[worker::workers]) for worker in range(workers)]
    dealt = len({len(files) for files in own}) == 1 and 0 not in lengths
    if dealt and max(lengths) - min(lengths) <= len(counts):
        assert [list(shard.files) for shard in shards] == own
        for shard, length in zip(shards, lengths, strict=True):
            read = images_read(shard, counts, length)
            assert len(set(read)) == length  # an epoch of its own has each of its images once
        assert len({image for shard in shards for image in images_read(shard, counts, shard.images)}) == total
    else:
        read = [image for shard in shards for image in images_read(shard, counts, total)]
        assert len(set(read)) == total
        assert {read.count(image) for image in read} == {workers}


def test_one_worker_reads_everything():
    (shard,) = shards_of(1, [3, 0, 900])
    assert (shard.files, shard.images, shard.stride, shard.index) == (("file0", "file1", "file2"), 903, 1, 0)
    assert str(shard) == "3 record files"


def test_the_log_names_a_part_of_shared_files():
    assert [str(shard) for shard in shards_of(2, [4, 4])] == ["1 record file"] * 2
    assert [str(shard) for shard in shards_of(2, [4])] == [f"image {n} of every 2 in 1 record file" for n in (1, 2)]


def test_an_evaluator_has_no_images_of_a_batch():
    layout = RunLayout(7, task=Task("evaluator", 0, {"worker": ["a:1", "b:1"], "evaluator": ["c:1"]}))
    assert not layout.trains and RunLayout(7).trains

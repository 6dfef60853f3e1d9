"""The input function of training on several workers: who reads which images."""

import numpy as np
import pytest

from tests.builders.records import (
    assert_same,
    config,
    elements,
    ids_of,
    record,
    train_input,
    write_shards,
)
from utility.run.cluster import Task


def share(shards, worker, workers, count, batch_size=4, step=0, skip_empty_images=False):
    """The first elements of one worker of several."""
    task = Task("worker", worker, {"worker": [f"host{number}:1" for number in range(workers)]})
    input_fn = train_input(shards, config(batch_size), first_step=step, task=task, skip_empty_images=skip_empty_images)
    return elements(input_fn, count)


def test_two_workers_together_read_what_one_process_reads(twenty, stream):
    shares = [share(twenty, worker, 2, 15) for worker in (0, 1)]
    for number, (features, _) in enumerate(stream):
        for place in range(4):
            theirs = shares[place % 2][number][0]
            assert theirs["image_id"][place // 2] == features["image_id"][place]
            np.testing.assert_array_equal(theirs["image"][place // 2], features["image"][place])


def test_workers_have_files_of_their_own_if_these_can_be_dealt_out(twenty):
    for worker in range(5):
        one_pass = ids_of(share(twenty, worker, 5, 4, batch_size=5))
        assert sorted(one_pass) == [f"{number:03d}" for number in range(4 * worker, 4 * worker + 4)]


@pytest.mark.parametrize(("workers", "batch_size", "step"), [(2, 4, 7), (5, 5, 6)], ids=["in turn", "dealt"])
def test_a_worker_that_goes_on_gets_the_rest_of_its_share(twenty, workers, batch_size, step):
    for worker in range(workers):
        whole = share(twenty, worker, workers, 12, batch_size)
        assert_same(share(twenty, worker, workers, 12 - step, batch_size, step), whole[step:])


def test_files_without_images_are_not_dealt_out(tmp_path):
    """The second of two workers would have none."""
    shards = write_shards(tmp_path, [record(0)], 2)
    assert [ids_of(share(shards, worker, 2, 1, batch_size=2)) for worker in (0, 1)] == [["000"], ["000"]]


def test_no_two_workers_draw_the_same_augmentation(tmp_path):
    """Records that are all the same image; only the place in the stream tells them apart."""
    shards = write_shards(tmp_path, [record(0)] * 8, 4)
    views = [image for worker in range(4) for image in share(shards, worker, 4, 2)]
    assert len({features["image"].tobytes() for features, _ in views}) == 8


def test_files_of_unequal_length_are_not_dealt_out(tmp_path):
    """Else the images of the short file would come ten times as often."""
    shards = [*write_shards(tmp_path, [record(number) for number in range(20)], 1)]
    (tmp_path / "short").mkdir()
    shards += write_shards(tmp_path / "short", [record(20), record(21)], 1)
    seen = [ids_of(share(shards, worker, 2, 11, batch_size=2)) for worker in (0, 1)]
    assert sorted(seen[0] + seen[1]) == [f"{number:03d}" for number in range(22)]


def test_workers_with_files_of_their_own_leave_out_images_without_objects(mixed):
    """Images 001 and 002 of the first file have objects, and 004 of the second."""
    seen = [ids_of(share(mixed, worker, 2, 4, batch_size=2, skip_empty_images=True)) for worker in (0, 1)]
    assert [sorted(ids) for ids in seen] == [["001", "001", "002", "002"], ["004"] * 4]

"""The lines of the training log."""

import types

import pytest

from net import training_log
from utility.config.settings import ScheduleConfig


@pytest.mark.parametrize(("host_wait", "told"), [(None, ""), (0.05, ""), (0.5, "waited for input 50% of the time")])
def test_the_log_tells_where_in_the_schedule_it_is_and_when_it_is_input_bound(capsys, monkeypatch, host_wait, told):
    """Steps of a second each, with 4 images of 6."""
    clock = iter(range(100))
    monkeypatch.setattr(training_log.time, "monotonic", lambda: float(next(clock)))
    fetched = {} if host_wait is None else {"host_wait": host_wait}
    log = training_log.TrainingLog({}, ScheduleConfig(4, 120), 10, images_per_epoch=6)
    scalars = dict.fromkeys(("loss", "cross_entropy", "location", "l2", "accuracy", "gradient_norm"), 1.0)
    for step in range(1, 21):
        values = {**scalars, "learning_rate": 0.001, "step": step, **fetched}
        log.after_run(None, types.SimpleNamespace(results=values))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        f"step {s}/120 epoch {e}/80" for s, e in ((1, 1), (10, 7), (20, 13))
    ]
    assert lines[-1].split("  ")[4:] == ["4.0 images/s", "2 min left", *([told] if told else [])]


@pytest.mark.parametrize(("images", "batch", "epochs"), [(600, 16, 60), (365, 32, 12), (16, 16, 7), (2000, 16, 3)])
def test_a_training_by_epochs_counts_to_their_number(images, batch, epochs, capsys):
    """Its steps are rounded up, so that the last batch may hold images of one epoch more."""
    steps = -(-images * epochs // batch)
    log = training_log.TrainingLog({}, ScheduleConfig(batch, steps), steps, images_per_epoch=images)
    values = dict.fromkeys(
        ("loss", "cross_entropy", "location", "l2", "accuracy", "gradient_norm", "learning_rate"), 1.0
    )
    for step in (1, steps):
        log.after_run(None, types.SimpleNamespace(results={**values, "step": step}))
    first, *_, last = capsys.readouterr().out.splitlines()
    assert f"epoch 1/{epochs} " in first and f"epoch {epochs}/{epochs} " in last

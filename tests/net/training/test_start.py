"""What a warm start says of heads that were trained for something else."""

import tensorflow.compat.v1 as tf

from net.ssd_net import ssd_network
from utility.checkpoints import checkpoint_files, model_directory, warm_start
from utility.config import config_file


def test_heads_that_were_trained_for_other_boxes_are_noted(tiny, parts, tmp_path, capsys):
    model_directory.copy(checkpoint_files.resolve(str(parts.folder)), str(tmp_path / "theirs"))
    names = (*reversed(tiny.class_names),)
    theirs = tiny.replace({"targets.prior_variances": (0.1, 0.1, 0.3, 0.3), "class_names": names})
    config_file.save(theirs, str(tmp_path / "theirs"))

    def said(*exclude):
        scopes = warm_start.Scopes("ssd300", "ssd300", exclude)
        start = warm_start.starting_point(str(tmp_path / "theirs"), optional=False, config=tiny, scopes=scopes)
        assert isinstance(start, warm_start.WarmStart)
        with tf.Graph().as_default():
            ssd_network(tf.zeros([1, 300, 300, 3]), tiny, "channels_last")
            start.load()
        return [line for line in capsys.readouterr().out.splitlines() if "note:" in line]

    first, second = said()
    assert "multibox_head/loc_* was trained with other settings: targets.prior_variances (0.1, 0.1, 0.2, 0.2)" in first
    assert "multibox_head/cls_*" in second and "class_names" in second
    assert said("ssd300/multibox_head") == []

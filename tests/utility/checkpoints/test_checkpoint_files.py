"""Checkpoint files: which one a path means, and what becomes of broken ones."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.builders.checkpoints import ONE, save
from tests.builders.weight_files import floats
from utility.checkpoints import checkpoint_files, warm_start
from utility.checkpoints.checkpoint_files import newest, prepare, resolve

# --- which checkpoint -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "m.ckpt-7", "m.ckpt-7.index", "m.ckpt-7.data-00000-of-00001"])
def test_a_folder_a_prefix_and_a_file_mean_the_checkpoint(tmp_path, path):
    prefix = save(tmp_path / "m.ckpt", ONE, global_step=7)
    assert resolve(str(tmp_path / path)) == prefix


def test_a_folder_means_its_newest(tmp_path):
    save(tmp_path / "m.ckpt", ONE, global_step=10)
    newest = save(tmp_path / "m.ckpt", ONE, global_step=9)
    assert resolve(str(tmp_path)) == newest


def test_a_folder_copied_from_another_machine_keeps_its_newest(tmp_path):
    save(tmp_path / "m.ckpt", ONE, global_step=1)
    save(tmp_path / "m.ckpt", ONE, global_step=2)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/elsewhere/logs/m.ckpt-1"\n')
    assert resolve(str(tmp_path)) == str(tmp_path / "m.ckpt-1")


def test_a_copied_folder_means_its_own_checkpoint(tmp_path):
    save(tmp_path / "old" / "m.ckpt", ONE)
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    (tmp_path / "new" / "checkpoint").write_text(f'model_checkpoint_path: "{tmp_path}/old/m.ckpt"\n')
    assert resolve(str(tmp_path / "new")) == str(tmp_path / "new" / "m.ckpt")


@pytest.mark.parametrize("space", ["\u00a0", "\u3000"])
def test_a_path_in_the_note_may_have_spaces_of_any_script(tmp_path, capsys, space):
    listed = save(tmp_path / f"m{space}1.ckpt", ONE, global_step=1)
    save(tmp_path / "other.ckpt", ONE, global_step=2)
    (tmp_path / "checkpoint").write_text(f'model_checkpoint_path: "{Path(listed).name}"\n', encoding="utf-8")
    assert (resolve(str(tmp_path)), capsys.readouterr().out) == (listed, "")


def test_a_single_checkpoint_needs_no_note(tmp_path):
    prefix = save(tmp_path / "m.ckpt", ONE)
    (tmp_path / "checkpoint").unlink()
    assert resolve(str(tmp_path)) == prefix


def test_several_checkpoints_without_a_note_are_not_guessed_at(tmp_path):
    for name in ("one", "two"):
        save(tmp_path / name, ONE, write_state=False)
    with pytest.raises(
        ValueError, match=r"holds 2 checkpoints and no checkpoint state that names the newest; name one: .*/one, .*/two"
    ):
        resolve(str(tmp_path))
    with pytest.raises(ValueError, match="holds 2 checkpoints"):  # not passed over in silence either
        warm_start.starting_point(str(tmp_path), optional=True)


def test_a_v1_checkpoint_is_a_file_without_suffix(tmp_path):
    prefix = save(tmp_path / "vgg_16.ckpt", ONE, version=tf.train.SaverDef.V1, write_state=False)
    assert resolve(prefix) == prefix


def test_a_wrong_path_says_what_is_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no checkpoint; .* is empty"):
        resolve(str(tmp_path))
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(FileNotFoundError, match=r"has no checkpoint; .* holds notes\.txt"):
        resolve(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*m\.ckpt; .* holds notes\.txt"):
        resolve(str(tmp_path / "m.ckpt"))
    save(tmp_path / "model.ckpt", ONE)
    with pytest.raises(FileNotFoundError, match=r"holds model\.ckpt\.index, checkpoint, notes\.txt$"):
        resolve(str(tmp_path / "m.ckpt"))
    with pytest.raises(FileNotFoundError, match=r"the folder .*there does not exist"):
        resolve(str(tmp_path / "there" / "m.ckpt"))


def test_a_file_to_be_converted_says_how(tmp_path):
    (tmp_path / "vgg16.pth").write_bytes(bytes(100))
    with pytest.raises(FileNotFoundError, match=r"python model/import_weights\.py --source=.*vgg16\.pth"):
        resolve(str(tmp_path / "vgg16.pth"))


def test_an_index_without_its_data_is_refused(tmp_path):
    prefix = save(tmp_path / "m.ckpt", ONE)
    (tmp_path / "m.ckpt.data-00000-of-00001").rename(tmp_path / "m.ckpt.data-00000-of-00002")
    for path in (prefix, str(tmp_path)):
        with pytest.raises(ValueError, match=r"cannot be read: .*m\.ckpt\.data-00000-of-00001; No such file"):
            resolve(path)


def test_a_damaged_checkpoint_is_one_line(tmp_path):
    prefix = save(tmp_path / "m.ckpt", ONE)
    Path(f"{prefix}.index").write_bytes(b"nothing of the kind, and longer than a footer of forty-eight bytes")
    with pytest.raises(ValueError, match="cannot be read") as caught:
        checkpoint_files.open_checkpoint(prefix)
    assert "\n" not in str(caught.value)


# --- broken ones ----------------------------------------------------------------------------------------------


@pytest.fixture
def three(tmp_path):
    """A folder with checkpoints of the steps 1, 2 and 3, the last the newest."""
    with tf.Graph().as_default(), tf.Session() as session:
        tf.get_variable("a", initializer=floats([500]))
        session.run(tf.global_variables_initializer())
        saver = tf.train.Saver(save_relative_paths=True)
        for step in (1, 2, 3):
            saver.save(session, str(tmp_path / "m.ckpt"), global_step=step)
    return tmp_path


def cut(path, part=0.5):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])


def flip(path):
    """Change one bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DATA = "m.ckpt-3.data-00000-of-00001"
DAMAGES = {
    "data cut off": (lambda folder: cut(folder / DATA), "cannot be read"),
    "data empty": (lambda folder: cut(folder / DATA, 0), "cannot be read"),
    "data with another bit": (lambda folder: flip(folder / DATA), "cannot be read"),
    "data missing": (lambda folder: (folder / DATA).unlink(), "No such file"),
    "data unfinished": (lambda folder: (folder / DATA).rename(folder / f"{DATA}.tempstate1234"), "No such file"),
    "index cut off": (lambda folder: cut(folder / "m.ckpt-3.index"), "cannot be read"),
    "index empty": (lambda folder: cut(folder / "m.ckpt-3.index", 0), "cannot be read"),
    "index missing": (lambda folder: (folder / "m.ckpt-3.index").unlink(), "index is missing"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_checkpoint_before_a_broken_one_is_taken_and_the_log_says_so(three, capsys, damage):
    spoil, why = DAMAGES[damage]
    spoil(three)
    assert resolve(str(three)) == newest(str(three)) == str(three / "m.ckpt-2")
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and f"{three}/m.ckpt-3 " in said[0] and why in said[0]
    assert said[0].endswith(f"taking {three}/m.ckpt-2, the one before it")


@pytest.mark.parametrize("damage", DAMAGES)
def test_training_goes_on_from_there(three, capsys, damage):
    """TensorFlow follows the note that it finds; after `prepare` that names a checkpoint that can be read."""
    DAMAGES[damage][0](three)
    assert prepare(str(three)) == tf.train.latest_checkpoint(three) == str(three / "m.ckpt-2")
    capsys.readouterr()
    assert newest(str(three)) == str(three / "m.ckpt-2")
    assert capsys.readouterr().out == ""  # said once
    with tf.Graph().as_default(), tf.Session() as session:
        tf.get_variable("a", [500])
        saver = tf.train.Saver(max_to_keep=2, save_relative_paths=True)
        saver.restore(session, newest(str(three)))
        saver.recover_last_checkpoints(tf.train.get_checkpoint_state(three).all_model_checkpoint_paths)
        saver.save(session, str(three / "m.ckpt"), global_step=4)
    assert newest(str(three)) == str(three / "m.ckpt-4")
    assert not (three / "m.ckpt-1.index").exists(), "the older ones are not counted any more"


@pytest.mark.parametrize("note", ["", "\0\0\0\0", "model_checkpoint_pa", None])
def test_a_broken_note_leaves_the_highest_step(three, note):
    (three / "checkpoint").unlink()
    if note is not None:
        (three / "checkpoint").write_text(note)
    (three / "m.ckpt-3.index").rename(three / "m.ckpt-10.index")
    (three / DATA).rename(three / "m.ckpt-10.data-00000-of-00001")
    assert newest(str(three)) == prepare(str(three)) == tf.train.latest_checkpoint(three) == str(three / "m.ckpt-10")


def test_nothing_but_broken_ones_is_an_error_that_lists_them(three):
    for step in (1, 2, 3):
        cut(three / f"m.ckpt-{step}.data-00000-of-00001")
    with pytest.raises(ValueError, match=r"m\.ckpt-3 cannot be read.*/m\.ckpt-1 cannot .* remove them to start"):
        prepare(str(three))


def test_a_run_that_was_killed_at_its_first_checkpoint_starts_anew(tmp_path):
    save(tmp_path / "model.ckpt", ONE, global_step=0, write_state=False)
    cut(tmp_path / "model.ckpt-0.index")
    (tmp_path / "model.ckpt-0.data-00000-of-00001.tempstate5726773888733747594").touch()
    (tmp_path / ".config.json.4711.tmp").touch()
    (tmp_path / "checkpoint").touch()
    with pytest.raises(FileNotFoundError, match="has no checkpoint"):
        resolve(str(tmp_path))
    assert prepare(str(tmp_path)) is None
    assert [path.name for path in tmp_path.iterdir() if "index" not in path.name] == [
        "model.ckpt-0.data-00000-of-00001"
    ]
    (tmp_path / "model.ckpt-0.index").rename(tmp_path / "model.ckpt-7.index")
    with pytest.raises(ValueError, match=r"model\.ckpt-7"):  # that run had something to lose
        prepare(str(tmp_path))


def test_a_note_of_checkpoints_that_are_gone_is_an_error(three):
    for path in three.glob("m.ckpt-*"):
        path.unlink()
    with pytest.raises(ValueError, match=r"m\.ckpt-3 is not there"):
        prepare(str(three))


def test_a_model_directory_that_cannot_be_written_to_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    for path in ("file", "file/logs"):
        with pytest.raises(ValueError, match=rf"--model_dir={tmp_path}/{path}: cannot be written to: (File|Not)"):
            prepare(str(tmp_path / path))


def test_a_read_only_file_system_is_one_line(three, file_system):
    mounted = file_system("size=1m")
    shutil.copytree(three, mounted, dirs_exist_ok=True)
    subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
    with pytest.raises(ValueError, match="cannot be written to: Read-only file system"):
        prepare(str(mounted))
    assert resolve(str(mounted)) == str(mounted / "m.ckpt-3")  # for evaluation that is enough


def test_a_full_file_system_is_one_line(three, file_system):
    mounted = file_system("size=1m")
    shutil.copytree(three, mounted, dirs_exist_ok=True)
    with pytest.raises(OSError, match="No space"), (mounted / "filling").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    with pytest.raises(ValueError, match="cannot be written to: No space left on device"):
        prepare(str(mounted))
    (mounted / "filling").unlink()
    assert prepare(str(mounted)) == str(mounted / "m.ckpt-3")


# --- notes that are not what TensorFlow writes ------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".index", ".meta", ".data-00000-of-00001"])
def test_a_note_that_names_a_file_means_its_checkpoint(three, ending):
    (three / "checkpoint").write_text(
        f'model_checkpoint_path: "m.ckpt-2{ending}"\nall_model_checkpoint_paths: "m.ckpt-1"\n'
    )
    assert newest(str(three)) == resolve(str(three)) == prepare(str(three)) == str(three / "m.ckpt-2")
    assert tf.train.latest_checkpoint(str(three)) == str(three / "m.ckpt-2")


def test_the_note_of_the_cases_means_a_checkpoint(three, cases):
    text = (cases / "note_index" / "checkpoint").read_text()
    (three / "checkpoint").write_text(text.replace("model.ckpt-600", "m.ckpt-2").replace("model.ckpt", "m.ckpt"))
    assert resolve(str(three)) == str(three / "m.ckpt-2")


UNUSABLE = {
    "UTF-16": 'model_checkpoint_path: "m.ckpt-1"\n'.encode("utf-16"),
    "UTF-16 without its mark": 'model_checkpoint_path: "m.ckpt-1"\n'.encode("utf-16-le"),
    "a NUL": b'model_checkpoint_path: "m.ckpt-1\\000"\n',
    "another message": b'name: "x" { { { {\n',
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_note_that_cannot_be_used_leaves_the_highest_step(three, capsys, kind):
    (three / "checkpoint").write_bytes(UNUSABLE[kind])
    assert newest(str(three)) == str(three / "m.ckpt-3")
    said = capsys.readouterr().out
    assert len(said) < 500 and said.count("\n") <= 1


def test_a_note_of_thousands_of_absent_names_is_a_few_lines(three, capsys):
    names = [f"/elsewhere/logs/m.ckpt-{number}" for number in range(10, 9000)]
    lines = [f'model_checkpoint_path: "{names[-1]}"', *(f'all_model_checkpoint_paths: "{name}"' for name in names)]
    (three / "checkpoint").write_text("\n".join(lines))
    assert newest(str(three)) == str(three / "m.ckpt-3")
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1 and said[0].endswith(f"; ...: taking {three}/m.ckpt-3, the one before it")
    for path in three.glob("m.ckpt*"):
        path.unlink()
    with pytest.raises(ValueError, match="is not there") as caught:
        newest(str(three))
    assert len(str(caught.value)) < 2200


def test_a_folder_in_the_place_of_a_file_leaves_the_one_before(three):
    (three / DATA).unlink()
    (three / DATA).mkdir()
    assert newest(str(three)) == str(three / "m.ckpt-2")


def test_the_index_of_another_checkpoint_is_one_line(three, tmp_path):
    save(tmp_path / "other" / "m.ckpt", {"b": floats([0] * 100_000)}, global_step=1)
    shutil.copyfile(tmp_path / "other" / "m.ckpt-1.index", three / "m.ckpt-3.index")
    with pytest.raises(ValueError, match=r"m\.ckpt-3 cannot be read: "):
        resolve(str(three / "m.ckpt-3"))
    assert newest(str(three)) == str(three / "m.ckpt-2")


@pytest.mark.parametrize("step", [floats(1), floats([1, 2]), np.array(b"7"), np.zeros((2, 2), np.int64)])
def test_training_does_not_go_on_from_a_step_that_tensorflow_does_not_restore(tmp_path, step):
    prefix = save(tmp_path / "m.ckpt", {"global_step": step})
    with pytest.raises(ValueError, match=rf"^checkpoint {prefix}: global_step is no whole number, but"):
        checkpoint_files.step_of(prefix)


def test_every_type_that_tensorflow_writes_is_read(tmp_path):
    """Scalars, no numbers at all, and a variable in parts."""
    values = {
        f"of_{dtype.name}": np.ones([2, 3], dtype.as_numpy_dtype) for dtype in (tf.bfloat16, tf.complex64, tf.bool)
    }
    values |= {"text": np.array([b"abc", b""]), "scalar": floats(1), "empty": np.zeros([0, 3], np.float32)}
    with tf.Graph().as_default(), tf.Session() as session:
        for name, value in values.items():
            tf.get_variable(name, initializer=value)
        tf.get_variable("parts", [4, 2], partitioner=tf.fixed_size_partitioner(2))
        session.run(tf.global_variables_initializer())
        prefix = tf.train.Saver().save(session, str(tmp_path / "m.ckpt"), write_meta_graph=False)
    reader = checkpoint_files.open_checkpoint(resolve(prefix))
    assert reader.get_variable_to_shape_map()["parts"] == [4, 2]
    for name, value in values.items():
        np.testing.assert_array_equal(reader.get_tensor(name), value)


@pytest.mark.parametrize("damage", [cut, flip])
def test_a_damaged_v1_checkpoint_is_one_line(tmp_path, damage):
    prefix = save(tmp_path / "vgg_16.ckpt", {"a": floats([0] * 500)}, version=tf.train.SaverDef.V1, write_state=False)
    damage(Path(prefix))
    with pytest.raises((ValueError, FileNotFoundError), match=r"cannot be read|not a checkpoint") as caught:
        resolve(prefix)
    assert "\n" not in str(caught.value)


# --- copies -----------------------------------------------------------------------------------------------------


def test_a_copy_takes_the_place_of_the_one_before(three, tmp_path):
    best = tmp_path / "best"
    checkpoint_files.copy(str(three / "m.ckpt-1"), str(best))
    (best / "config.json").touch()
    checkpoint_files.copy(str(three / "m.ckpt-2"), str(best))
    assert resolve(str(best)) == str(best / "m.ckpt-2")
    assert {path.name.partition(".")[0] for path in best.iterdir()} == {"checkpoint", "config", "m"}
    assert not list(best.glob("*ckpt-1*"))
    three.rename(tmp_path.parent / f"{tmp_path.name}-moved")
    assert resolve(f"{tmp_path.parent / f'{tmp_path.name}-moved'}/best").endswith("best/m.ckpt-2")


def test_a_copy_that_breaks_off_leaves_the_one_before(three, tmp_path, monkeypatch):
    best = tmp_path / "best"
    checkpoint_files.copy(str(three / "m.ckpt-1"), str(best))
    copied: list[str] = []

    def copyfile(source, target):
        if len(copied) == 1:
            raise OSError(28, "No space left on device")
        copied.append(source)
        Path(target).write_bytes(Path(source).read_bytes())

    monkeypatch.setattr(shutil, "copyfile", copyfile)
    with pytest.raises(OSError, match="No space"):
        checkpoint_files.copy(str(three / "m.ckpt-2"), str(best))
    assert resolve(str(best)) == str(best / "m.ckpt-1")


def test_copying_what_is_gone_keeps_what_was_there(three, tmp_path):
    best = tmp_path / "best"
    checkpoint_files.copy(str(three / "m.ckpt-1"), str(best))
    with pytest.raises(FileNotFoundError, match=r"m\.ckpt-9 any more"):
        checkpoint_files.copy(str(three / "m.ckpt-9"), str(best))
    assert checkpoint_files.resolve(str(best)) == str(best / "m.ckpt-1")

"""One program at a time writes to a folder."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from utility.run.command import ROOT
from utility.run.folder_lock import locked

HOLD = (
    "import sys; from pathlib import Path; from utility.run.folder_lock import locked\n"
    "with locked(Path(sys.argv[1]), '--out'): print('held', flush=True); sys.stdin.read()"
)


def test_a_second_program_is_refused_until_the_first_has_ended_however(tmp_path):
    folder = tmp_path / "new" / "folder"
    command = [sys.executable, "-c", HOLD, folder]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        message = rf"--out={folder}: another program is writing there: wait until it has ended, or"
        with pytest.raises(ValueError, match=message), locked(folder, "--out"):
            pass
        holder.kill()
        holder.wait()
    assert len(list(folder.iterdir())) == 1
    for _ in range(2):
        with locked(folder, "--out"):
            pass
    assert list(folder.iterdir()) == []


def test_an_error_inside_lets_go(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path, "--out"):
        raise KeyError
    with locked(tmp_path, "--out"):
        pass


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, capsys):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with locked(tmp_path, "--out"):
        assert f"{tmp_path} cannot be locked (No locks available): do not start a second" in capsys.readouterr().out


def test_what_is_locked_is_open_for_writing_as_nfs_demands(tmp_path, monkeypatch, capsys):
    lock = fcntl.flock

    def of_nfs(descriptor, operation):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", of_nfs)
    with locked(tmp_path, "--out"), pytest.raises(ValueError, match="is writing there"), locked(tmp_path, "--out"):
        pass
    assert (list(tmp_path.iterdir()), capsys.readouterr().out) == ([], "")


def test_a_file_that_its_owner_has_removed_meanwhile_is_not_taken_for_the_lock(tmp_path, monkeypatch):
    lock = fcntl.flock
    removed: list[Path] = []

    def after_the_end_of_another(descriptor, operation):
        if not removed:
            removed.extend(tmp_path.iterdir())
            removed[0].unlink()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", after_the_end_of_another)
    with locked(tmp_path, "--out"):
        assert [*tmp_path.iterdir()] == removed
        with pytest.raises(ValueError, match="is writing there"), locked(tmp_path, "--out"):
            pass
        assert [*tmp_path.iterdir()] == removed
    assert [*tmp_path.iterdir()] == []

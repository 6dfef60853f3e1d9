"""One program at a time writes to a folder."""

import errno
import fcntl
import subprocess
import sys

import pytest

from dataset.sources.folder_lock import locked
from utility.run.command import ROOT

HOLD = (
    "import sys; from pathlib import Path; from dataset.sources.folder_lock import locked\n"
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

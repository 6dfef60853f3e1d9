"""Set-up as a newcomer meets it: finding a Python, making .venv, the pinned lists, `--help`, a clean tree."""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from utility.run.command import ROOT

FIND_PYTHON = ROOT / "utility" / "startup" / "find_python.sh"
EXTRAS = ["requirements-dev.txt", "requirements-export.txt", "requirements-gpu.txt", "requirements-video.txt"]


# --- finding a Python -------------------------------------------------------------------------------------

# Answers the two questions that the search asks, and, for the Makefile, `-m venv`: the copy in the new .venv
# plays pip, notes the call, and fails where the folder has a file named "broken".
FAKE_PYTHON = """#!/bin/sh
case "$*" in
    *ensurepip*) exit {venv_status} ;;
    *version_info*) echo {version} ;;
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    *"pip install"*) echo "$*" >>calls; echo "Collecting something==1.0 (from x)"; [ ! -e broken ] ;;
esac
"""


def fake_python(path: Path, version: str, venv: bool = True) -> Path:
    return script(path, FAKE_PYTHON.format(version=version, venv_status=0 if venv else 1))


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def find_python(*folders: Path, python: str = "", home: Path = Path("/nowhere")) -> subprocess.CompletedProcess:
    environment = {"PATH": ":".join(map(str, folders)), "HOME": str(home)}
    command = ["/bin/sh", str(FIND_PYTHON), python]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


FITTING = ["3.10", "3.11", "3.12", "3.13"]


@pytest.mark.parametrize(
    ("name", "version"),
    [("python3", "3.10.0"), ("python", "3.12.3"), *((f"python{fitting}", f"{fitting}.14") for fitting in FITTING)],
)
def test_finds_a_python_of_any_usual_name(tmp_path, name, version):
    expected = fake_python(tmp_path / name, version)
    result = find_python(tmp_path)
    assert (result.returncode, result.stdout.strip()) == (0, str(expected))


def test_what_the_user_has_selected_comes_before_newer_versions(tmp_path):
    fake_python(tmp_path / "first" / "python3.13", "3.13.2")
    expected = fake_python(tmp_path / "second" / "python3", "3.10.4")
    assert find_python(tmp_path / "first", tmp_path / "second").stdout.strip() == str(expected)


def test_finds_what_pyenv_has_installed_and_lists_one_of_each_version(tmp_path):
    for version in ["3.9.18", "3.12.1", "3.12.4", "3.13.0"]:
        fake_python(tmp_path / ".pyenv" / "versions" / version / "bin" / "python", version)
    selected = fake_python(tmp_path / "bin" / "python3", "3.12.7")
    pyenv = tmp_path / ".pyenv" / "versions"
    assert find_python(tmp_path / "empty", home=tmp_path).stdout.strip() == str(pyenv / "3.12.1/bin/python")
    listed = find_python(tmp_path / "bin", python="--all", home=tmp_path)
    assert (listed.returncode, listed.stdout.split()) == (0, [str(selected), str(pyenv / "3.13.0/bin/python")])
    assert find_python(tmp_path / "empty", python="--all").returncode != 0


# Has no Python until it is told to install one, which fails where a file "offline" lies beside it.
FAKE_UV = """#!/bin/sh
here=${0%/*}
case "$*" in
    "python install 3.13") [ ! -e "$here/offline" ] && echo "Installed Python 3.13" && : >"$here/installed" ;;
    "python find "*) [ -e "$here/installed" ] && echo "$here/own/python3.13" ;;
    *) exit 9 ;;
esac
"""


def test_where_nothing_fits_uv_is_asked_and_it_is_said(tmp_path):
    fake_python(tmp_path / "python3", "3.9.2")
    script(tmp_path / "uv", FAKE_UV)
    expected = fake_python(tmp_path / "own" / "python3.13", "3.13.1")
    (tmp_path / "offline").touch()
    offline = find_python(tmp_path)
    assert offline.returncode != 0 and "No fitting Python found: this project needs" in offline.stderr
    (tmp_path / "offline").unlink()
    fetched = find_python(tmp_path)
    assert (fetched.returncode, fetched.stdout.strip()) == (0, str(expected))
    assert "uv is there and installs Python 3.13" in fetched.stderr and "Taking a Python of uv's" in fetched.stderr
    again = find_python(tmp_path)
    assert again.stdout.strip() == str(expected) and "installs" not in again.stderr


@pytest.mark.parametrize("version", ["3.14.0", "3.9.18", "2.7.18", "3.1.0", "3.110.0"])
def test_says_what_fits_and_how_to_get_it_where_only_others_are_found(tmp_path, version):
    fake_python(tmp_path / "python3", version)
    result = find_python(tmp_path)
    assert result.returncode != 0
    assert result.stdout == ""
    assert f"{tmp_path}/python3 is Python {version}" in result.stderr
    for word in ["3.10 to 3.13", "Debian, Ubuntu", "pyenv", "uv", "conda"]:
        assert word in result.stderr
    assert "make PYTHON=/path/to/python3.12" in result.stderr


def test_says_so_where_there_is_no_python_at_all(tmp_path):
    result = find_python(tmp_path)
    assert result.returncode != 0
    assert "no python3, python or python3.13 to python3.10 on PATH" in result.stderr


@pytest.mark.parametrize("body", ["exit 127", "echo 'not installed' >&2; exit 1", "echo", "exit 0"])
def test_skips_a_broken_shim_for_the_same_name_further_on(tmp_path, body):
    script(tmp_path / "shims" / "python3.11", f"#!/bin/sh\n{body}\n")
    expected = fake_python(tmp_path / "usr bin" / "python3.11", "3.11.2")
    assert find_python(tmp_path / "shims", tmp_path / "usr bin").stdout.strip() == str(expected)
    assert find_python(tmp_path / "shims").returncode != 0


def test_the_python_given_wins(tmp_path):
    fake_python(tmp_path / "python3.11", "3.11.2")
    given = fake_python(tmp_path / "elsewhere" / "mine", "3.10.13")
    assert find_python(tmp_path, python=str(given)).stdout.strip() == str(given)


@pytest.mark.parametrize("given", ["old", "nothing/here"])
def test_the_python_given_is_checked_and_no_other_taken_instead(tmp_path, given):
    fake_python(tmp_path / "python3.11", "3.11.2")
    fake_python(tmp_path / "old", "3.9.1")
    result = find_python(tmp_path, python=str(tmp_path / given))
    assert result.returncode != 0
    assert result.stdout == ""
    assert str(tmp_path / given) in result.stderr


def test_names_the_package_where_the_venv_module_is_missing(tmp_path):
    fake_python(tmp_path / "python3", "3.10.12", venv=False)
    result = find_python(tmp_path)
    assert result.returncode != 0
    assert "apt install python3.10-venv" in result.stderr


# --- making .venv -----------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path) -> Path:
    """A folder with what `make venv` reads, and fake Pythons beside it."""
    folder = tmp_path / "project"
    (folder / "utility" / "startup").mkdir(parents=True)
    for name in ["Makefile", "requirements.lock", *EXTRAS]:
        shutil.copy(ROOT / name, folder)
    shutil.copy(FIND_PYTHON, folder / "utility" / "startup")
    fake_python(tmp_path / "python3", "3.11.2")
    fake_python(tmp_path / "python3.10", "3.10.2")
    fake_python(tmp_path / "python3.9", "3.9.2")
    return folder


def make(project: Path, *arguments: str) -> subprocess.CompletedProcess:
    path = f"{project.parent}:/usr/local/bin:/usr/bin:/bin"
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=project, env={"PATH": path}, capture_output=True, text=True, check=False)


def installs(project: Path) -> int:
    calls = project / "calls"
    return len(calls.read_text().splitlines()) if calls.exists() else 0


def test_make_alone_prints_the_targets(project):
    result = make(project)
    assert result.returncode == 0
    for target in ["venv", "quickstart", "test", "check", "clean", "help"]:
        assert f"make {target} " in result.stdout
    assert installs(project) == 0


def test_venv_is_made_once_and_again_when_a_list_changes(project):
    assert make(project, "venv").returncode == 0
    assert make(project, "venv").returncode == 0
    assert installs(project) == 1
    later = (project / ".venv/.installed-run").stat().st_mtime + 10
    os.utime(project / "requirements.lock", (later, later))
    assert make(project, "venv").returncode == 0
    assert installs(project) == 2


def test_an_unfinished_venv_fails_and_is_never_taken_for_a_finished_one(project):
    (project / "broken").touch()
    for expected_installs in [1, 2]:
        assert make(project, "venv").returncode != 0
        assert installs(project) == expected_installs
    (project / "broken").unlink()
    (project / ".venv" / "leftover").touch()
    assert make(project, "venv").returncode == 0
    assert not (project / ".venv" / "leftover").exists()


def test_an_unfit_python_leaves_the_venv_as_it_is(project):
    assert make(project, "venv").returncode == 0
    result = make(project, f"PYTHON={project.parent}/python3.9", "venv")
    assert result.returncode != 0
    assert "is Python 3.9.2" in result.stderr
    assert make(project, "venv").returncode == 0
    assert installs(project) == 1


def test_another_python_makes_another_venv(project):
    for name in ["python3", "python3.10", "python3.10"]:
        result = make(project, f"PYTHON={project.parent}/{name}", "venv")
        assert result.returncode == 0
    assert installs(project) == 2
    assert "3.10.2" in (project / ".venv/bin/python").read_text()


def test_a_second_venv_lies_beside_the_first(project):
    assert make(project, "venv").returncode == 0
    assert make(project, f"PYTHON={project.parent}/python3.10", "VENV=.venv-3.10", "venv").returncode == 0
    assert "3.10.2" in (project / ".venv-3.10/bin/python").read_text()
    assert "3.11.2" in (project / ".venv/bin/python").read_text()


@pytest.mark.parametrize("name", ["precious", "../precious", ".venv/../../precious", "two words"])
def test_no_other_folder_is_taken_for_a_venv(project, name):
    (project / "precious").mkdir()
    result = make(project, f"VENV={name}", "venv")
    assert result.returncode != 0 and f"VENV={name}: must be a folder here" in result.stderr
    assert (project / "precious").is_dir() and installs(project) == 0


def test_gpu_adds_the_cuda_libraries_once(project):
    assert make(project, "venv").returncode == 0
    assert make(project, "GPU=1", "venv").returncode == 0
    assert make(project, "GPU=1", "venv").returncode == 0
    assert "requirements-gpu.txt" in (project / "calls").read_text().splitlines()[1]
    assert installs(project) == 2


def test_a_venv_whose_python_has_gone_is_made_anew(project):
    assert make(project, "venv").returncode == 0
    (project / ".venv/bin/python").unlink()
    assert make(project, "venv").returncode == 0
    assert installs(project) == 2


def test_the_python_of_the_venv_itself_is_not_what_a_new_one_is_made_with(project):
    assert make(project, "venv").returncode == 0
    result = make(project, "PYTHON=.venv/bin/python", "venv")
    assert result.returncode != 0
    assert "to be set up" in result.stderr
    assert (project / ".venv/bin/python").exists()


# --- the pinned lists -------------------------------------------------------------------------------------


def pins(name: str) -> dict[str, str]:
    """Package name -> version of a list; every line must be `name==version`, with or without a marker."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
    found = [re.fullmatch(r"([a-z0-9-]+)==([0-9][0-9a-z.]*)( ; .+)?", line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if not match]
    names = [match[1] for match in found if match]
    assert len(set(names)) == len(names)
    return {match[1]: match[2] for match in found if match}


def test_every_list_is_pinned_and_they_agree():
    lock = pins("requirements.lock")
    assert pins("requirements.txt").items() <= lock.items()
    for name in EXTRAS:
        assert not pins(name).keys() & lock.keys()
    assert not pins("requirements-dev.txt").keys() & pins("requirements-export.txt").keys()
    coco = pins("requirements-coco.txt")  # which needs numpy and nothing else
    assert coco == {"pycocotools": pins("requirements-dev.txt")["pycocotools"]}


ELSEWHERE = {"exceptiongroup", "tomli"}  # with Python 3.10 alone


def needs_of(name: str) -> set[str]:
    needs = [Requirement(line) for line in distribution(name).requires or []]
    return {canonical(need.name) for need in needs if not need.marker or need.marker.evaluate({"extra": ""})}


def test_the_lock_is_what_the_requirements_need():
    todo = set(pins("requirements.txt"))
    reached: set[str] = set()
    while todo - reached:
        name = min(todo - reached)
        reached.add(name)
        todo |= needs_of(name)
    assert reached == pins("requirements.lock").keys()


@pytest.mark.parametrize("name", ["requirements-dev.txt", "requirements-export.txt", "requirements-video.txt"])
def test_each_list_is_complete_beside_the_lock(name):
    listed = pins(name).keys() | pins("requirements.lock").keys()
    needed = set().union(*(needs_of(package) for package in pins(name).keys() - ELSEWHERE))
    assert needed - listed == set()


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_gpu_libraries_are_those_tensorflow_asks_for():
    needs = [Requirement(line) for line in distribution("tensorflow").requires or [] if "and-cuda" in line]
    listed = pins("requirements-gpu.txt")
    assert {need.name for need in needs} == listed.keys()
    assert all(need.specifier.contains(listed[need.name]) for need in needs)


# --- the scripts ------------------------------------------------------------------------------------------

# A flag of its own that each script's --help must show.
SCRIPTS = {
    "train_ssd.py": "model_dir",
    "eval_ssd.py": "data_dir",
    "voc_eval.py": "pred_dir",
    "simple_ssd_demo.py": "output",
    "dataset/convert_tfrecords.py": "dataset_directory",
    "dataset/make_sample_voc.py": "output_directory",
    "dataset/dataset_inspect.py": "data_dir",
    "model/import_weights.py": "source",
    "utility/benchmark.py": "batches",
    "utility/checkpoint_inspect.py": "slots",
    "utility/draw_curves.py": "model_dir",
    "utility/export_model.py": "format",
}


@pytest.mark.parametrize(("name", "flag"), SCRIPTS.items())
def test_help_needs_no_tensorflow(name, flag):
    command = [sys.executable, "-X", "importtime", name, "--help"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode in (0, 1)  # absl's own --help ends with 1
    assert "Traceback" not in result.stderr
    assert re.search(rf"--(\[no\])?{flag}\b", result.stdout), result.stdout
    imported = {line.rsplit("|", 1)[1].strip() for line in result.stderr.splitlines() if "|" in line}
    assert "os" in imported
    assert not {"tensorflow", "keras", "matplotlib"} & imported


def test_every_word_of_make_quick_selects_a_test():
    text = (ROOT / "Makefile").read_text()
    words = re.search(r"^QUICK := (.+)$", text, re.MULTILINE)[1].split(" or ")  # type: ignore[index]
    selection = re.search(r"^quick: SELECTION := ((?:.|\\\n)+?) -k", text, re.MULTILINE)[1]  # type: ignore[index]
    paths = [path for name in selection.replace("\\\n", " ").split() for path in files_of_tests(ROOT / name)]
    names = [f"{path.stem}::{test}" for path in paths for test in re.findall(r"def (test_\w+)", path.read_text())]
    assert [word for word in words if not any(word in name for name in names)] == []


def files_of_tests(path: Path) -> list[Path]:
    return [*path.rglob("test_*.py")] if path.is_dir() else [path]


# --- the tree ---------------------------------------------------------------------------------------------


def git_files(*options: str) -> list[str]:
    command = ["git", "-C", str(ROOT), "ls-files", "-z", *options]
    listing = subprocess.run(command, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


# Written in pieces, so that this file does not match.
FOLDERS = "|".join(["home", "root", "work", "Users", "workspace"])
HOSTS = [
    "py" + "pi.org",
    "python" + "hosted.org",
    "registry." + "npmjs",
    "deb." + "debian.org",
    "conda." + "anaconda.org",
]


@pytest.mark.parametrize("pattern", [rf"(?<![\w.:])/(?:{FOLDERS})/", "|".join(map(re.escape, HOSTS))])
def test_tracked_files_name_no_machine_path_and_no_registry_host(pattern):
    found = []
    for name in git_files():
        text = (ROOT / name).read_bytes().decode("utf-8", errors="ignore")
        found += [f"{name}: {match[0]}" for match in re.finditer(pattern, text)]
    assert found == []


def test_nothing_that_is_made_is_tracked():
    assert git_files("--cached", "--ignored", "--exclude-standard") == []

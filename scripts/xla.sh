#!/usr/bin/env bash
# Training on XLA, really run: makes .venv-xla with torch_xla and the torch that belongs to it, and runs the tests that
# carry the marker `xla`. PJRT's CPU stands in for the TPU. Arguments go to pytest: scripts/xla.sh -k resume
#
# Not part of CI. The newest torch_xla goes with torch 2.9, older than the one that is pinned. On Linux with x86, PyPI's
# torch is the build for CUDA with NVIDIA's libraries: 8 GB in all. Where an index with CPU builds is set up
# (PIP_EXTRA_INDEX_URL), pip takes that build, which is a fifth of it.
# PYTHON chooses the interpreter. XLA_PERSISTENT_CACHE_PATH keeps compiled graphs: a second run is much faster.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

versions=(torch==2.9.0 torch_xla==2.9.0)
stamp=.venv-xla/installed
wanted=$({ pwd; echo "${versions[@]}"; cat pyproject.toml constraints.txt; } | cksum)
if [[ ! -f $stamp || $(<"$stamp") != "$wanted" ]]; then
    echo "== installing into .venv-xla (the first time takes some minutes)" >&2
    [[ -x .venv-xla/bin/python ]] || "${PYTHON:-python3}" -m venv .venv-xla
    grep -v '^torch==' constraints.txt >.venv-xla/constraints.txt
    .venv-xla/bin/python -m pip install --quiet --disable-pip-version-check \
        --constraint .venv-xla/constraints.txt "${versions[@]}" pytest --editable .
    echo "$wanted" >"$stamp"
fi
export XLA_PERSISTENT_CACHE_PATH=${XLA_PERSISTENT_CACHE_PATH:-.venv-xla/compiled}
SECONDS=0
.venv-xla/bin/python -m pytest -m xla tests/xla "$@"
echo "== passed in $SECONDS s" >&2

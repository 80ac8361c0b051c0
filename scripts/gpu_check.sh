#!/usr/bin/env bash
# Checks on one GPU what only a GPU can show, in at most 8 minutes, without network: scripts/gpu/check.py has the steps.
#     scripts/gpu_check.sh [--out DIRECTORY] [--dry-run]
# PYTHON chooses the interpreter, whose torch (2.11 to 2.13) is used as it is. WHEELS names a folder with the wheels of
# what else is needed (transformers, accelerate, ...) where the interpreter lacks it: they go into a directory beside the
# checkout's other build files, and nothing is installed into the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-}
if [[ -z $python ]]; then
    python=python3
    [[ -x .venv/bin/python ]] && python=.venv/bin/python
fi
"$python" -c 'import torch' 2>/dev/null || {
    echo "gpu_check.sh: '$python' has no torch. Name an interpreter that has one: PYTHON=/path/to/python" >&2
    exit 5
}
if [[ -n ${WHEELS:-} ]]; then
    target=build/gpu-check
    mkdir -p "$target"
    # --no-deps: the wheels are taken as they are, and torch stays the interpreter's own.
    "$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --upgrade --target "$target" "$WHEELS"/*.whl
    export PYTHONPATH="$PWD/$target${PYTHONPATH:+:$PYTHONPATH}"
fi
exec "$python" -m scripts.gpu.check "$@"

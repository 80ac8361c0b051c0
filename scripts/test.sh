#!/usr/bin/env bash
# Lint, format, types, tests, in .venv (made if needed). Arguments go to pytest: scripts/test.sh -k config
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/install.sh test
SECONDS=0
python=.venv/bin/python
echo "== ruff" >&2
$python -m ruff check --quiet .
$python -m ruff format --quiet --check .
echo "== mypy" >&2
$python -m mypy
echo "== pytest" >&2
# One thread each: two workers that both use every core are slower than one.
OMP_NUM_THREADS=1 $python -m pytest -n 2 --dist loadfile "$@"
echo "== passed in $SECONDS s" >&2

#!/usr/bin/env bash
# Do the lowest versions that pyproject.toml allows work? Installs exactly those of every direct dependency into an
# environment of its own and runs a part of the tests with them. Minutes and gigabytes: torch's oldest build is the one
# for CUDA, unless UV_EXTRA_INDEX_URL or UV_FIND_LINKS offers another.
#     scripts/lowest_versions.sh [arguments for pytest]
# PYTHON chooses the interpreter; PLACE keeps the environment there, to be used again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
place=${PLACE:-$(mktemp -d)}
[[ -n ${PLACE:-} ]] || trap 'rm -rf "$place"' EXIT
SECONDS=0

[[ -x $place/uv/bin/uv ]] || {
    "$python" -m venv "$place/uv"
    "$place/uv/bin/python" -m pip install --quiet --disable-pip-version-check uv
}
uv=$place/uv/bin/uv
[[ -x $place/env/bin/python ]] || "$uv" venv --quiet --python "$python" "$place/env"
echo "== the lowest versions of the direct dependencies" >&2
"$uv" pip install --python "$place/env/bin/python" --resolution lowest-direct --editable '.[test]'
names=$("$python" - <<'EOF'
import re
import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
listed = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
names = {re.match(r"[\w.-]+", one)[0] for one in listed} - {project["name"]}
print("|".join(sorted(re.sub(r"[-_.]+", "-", name) for name in names)))
EOF
)
"$uv" pip list --python "$place/env/bin/python" | grep -iE "^($names) "
echo "== tests" >&2
tests=(
    tests/config tests/cli tests/data tests/evaluation tests/models tests/training/test_loops_agree.py
    tests/commands/test_main_job.py tests/commands/test_export.py tests/commands/test_sweep.py
)
OMP_NUM_THREADS=1 "$place/env/bin/python" -m pytest -q "${@:-${tests[@]}}"
echo "== passed in $SECONDS s" >&2

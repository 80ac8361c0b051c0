#!/usr/bin/env bash
# Is what users install whole? Builds the sdist, the wheel from it, installs that into an empty environment outside the
# checkout and runs the quickstart's commands there, with configs from inside the package.
#     scripts/package.sh            dependencies are those of .venv (scripts/install.sh), so it takes less than a minute
#     scripts/package.sh --full     dependencies are downloaded, as for a user: minutes, gigabytes with a CUDA build
# PYTHON chooses the interpreter of --full.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mode=${1:-}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
SECONDS=0
if [[ $mode == --full ]]; then python=${PYTHON:-python3}; else python=.venv/bin/python; fi

echo "== sdist, and a wheel from it" >&2
"$python" -m venv "$place/build"
"$place/build/bin/python" -m pip install --quiet --disable-pip-version-check build
"$place/build/bin/python" -m build --outdir "$place/dist" . >"$place/build.log" 2>&1 || { cat "$place/build.log" >&2; exit 1; }
wheel=$(echo "$place"/dist/*.whl)
"$python" - "$wheel" <<'EOF'
import sys, zipfile

with zipfile.ZipFile(sys.argv[1]) as wheel:
    names = [name for name in wheel.namelist() if not name.endswith("/")]
    size = sum(wheel.getinfo(name).compress_size for name in names)
needed = {"finetune_cli/py.typed", "finetune_cli/configs/quickstart.yaml", "finetune_cli/samples/sst2-mini/train.jsonl"}
assert needed <= set(names), needed - set(names)
outside = [name for name in names if not name.startswith(("finetune_cli/", "finetune_cli-"))]
assert not outside, outside
print(f"== {len(names)} files, {size / 1e3:,.0f} kB", file=sys.stderr)
EOF

echo "== into an empty environment" >&2
"$python" -m venv "$place/empty"
pip=("$place/empty/bin/python" -m pip install --quiet --disable-pip-version-check)
if [[ $mode == --full ]]; then
    "${pip[@]}" --constraint constraints.txt "$wheel"
else
    "${pip[@]}" --no-deps "$wheel"
    # A .pth file adds the folder, but reads no .pth files in it: the checkout itself stays out.
    "$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
        >"$("$place/empty/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/dependencies.pth"
fi

export HF_HUB_OFFLINE=1 FINETUNE_CACHE="$place/cache" OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
mkdir "$place/work"
cd "$place/work"
run() {
    echo "== finetune $*" >&2
    env -u PYTHONPATH "$place/empty/bin/finetune" "$@" >"$place/out.txt" 2>&1 || { cat "$place/out.txt" >&2; exit 1; }
}
run --version
"$place/empty/bin/python" -c 'import finetune_cli, sys; assert finetune_cli.__file__.startswith(sys.prefix), finetune_cli.__file__'
run validate builtin:quickstart
run train builtin:smoke
run evaluate builtin:smoke
run predict runs/smoke --text "I am super delighted."
printf 'text,label\n%s' "$(for n in {1..12}; do echo "a good film $n,yes"; echo "a bad meal $n,no"; done)" >reviews.csv
run init reviews.csv
run train config.yaml --dry-run -s model.name_or_path=null -s 'model.from_scratch={}'
echo "== done in $SECONDS s" >&2

#!/usr/bin/env bash
# From a fresh machine with Python and pip to a trained classifier: installs, trains, scores, predicts.
# Run it again and it finds all of that done. Needs no account and no model hub.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/install.sh
SECONDS=0
finetune() {
    echo "== finetune $*" >&2
    .venv/bin/finetune "$@"
}
finetune train configs/quickstart.yaml
finetune evaluate configs/quickstart.yaml
finetune predict configs/quickstart.yaml --text "I am super delighted."
echo "== done in $SECONDS s after the install; your turn: .venv/bin/finetune --help" >&2

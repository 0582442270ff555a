#!/bin/sh
# All that is made from the weights of models/needle, made anew after they were exchanged: PYTHON=<folder>/bin/python test/golden/regenerate.sh
# Before: models/recipe/export.py has written models/needle (with logits.json), and samples.jsonl lies there with its old answers.
# Order: the answers of the samples, then what is held against them. Stops at the first step that finds something wrong.
set -eu
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3}
export PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1

"$PYTHON" models/recipe/answers.py models/needle
"$PYTHON" test/golden/make.py needle_logits tokenizer_cases kvpress_needle kvpress_library:needle

# RestoreKV wants a later kvpress, and peft: beside the others, for this step alone.
packages=${RESTORE_PACKAGES:-}
if [ -z "$packages" ]; then
  packages=$(mktemp -d)
  trap 'rm -rf "$packages"' EXIT
  "$PYTHON" -m pip install --quiet --no-deps --target "$packages" kvpress==0.5.5 peft==0.21.2
fi
PYTHONPATH="$packages" "$PYTHON" test/golden/make.py kvpress_restore

git status --short models/needle test/golden

#!/bin/sh
# The bundled model, from nothing: corpus, tokenizer, weights, scores, model folder.
#
#   python3.11 -m venv env && env/bin/pip install -e '.[train]' && PYTHON=env/bin/python train/reproduce.sh
#
# TOKENS is what the committed checkpoint was trained on.  The same seed gives the same texts; the weights differ in the
# last digits from machine to machine, and so may the scores by a few per cent.
set -eu
cd "$(dirname "$0")"
PYTHON=${PYTHON:-python3}
OUT=${OUT:-checkpoint}
TOKENS=${TOKENS:-15089323}

"$PYTHON" train.py "$OUT" --tokens "$TOKENS" --seed 1
"$PYTHON" export.py "$OUT"
"$PYTHON" evaluate.py "$OUT" --folder ../src/llmos_tiny/model --out results.json --card ../MODEL_CARD.md
"$PYTHON" export.py "$OUT"  # again: the card has its figures now

#!/bin/sh
# The bundled model, from nothing: corpus, tokenizer, weights in two phases, scores, model folder.
#
# From the root of the workspace, whose parts are on no index:
#
#   python3.11 -m venv env && env/bin/pip install -r requirements.txt -e './plugins/tiny[train]'
#   PYTHON=$PWD/env/bin/python plugins/tiny/train/reproduce.sh
#
# FIRST and TOKENS are what the committed checkpoint was trained on.  The same seeds give the same texts; the weights
# differ in the last digits from machine to machine, and so may the scores by a few per cent.
set -eu
cd "$(dirname "$0")"
PYTHON=${PYTHON:-python3}
OUT=${OUT:-checkpoint}
FIRST=${FIRST:-15089323}
TOKENS=${TOKENS:-1903686}

"$PYTHON" train.py "$OUT-first" --tokens "$FIRST" --seed 1
"$PYTHON" train.py "$OUT-second" --start "$OUT-first" --wide --tokens "$TOKENS" --seed 2 --accumulate 1 --easy 0 --stable 0.5 \
    --warm-up 20 --matrix-rate 0.01 --vector-rate 0.0015
"$PYTHON" average.py "$OUT-first" "$OUT-second" "$OUT" --share 0.75
"$PYTHON" export.py "$OUT"
"$PYTHON" suites.py ../evaluation
"$PYTHON" card.py
"$PYTHON" formats.py "$OUT" --count 10 --out results.json --card ../MODEL_CARD.md
"$PYTHON" export.py "$OUT"  # again: the card has its figures now

#!/usr/bin/env bash
# A decision tree cannot split a column of times in seconds where the classes change.
#
# Expected: whole numbers of 10 digits are exact in int64 and in float64, so a tree splits them wherever the classes
# do.
# Happens: trees convert their input to float32, in which the times of our days are multiples of 128 seconds. Hundred
# events of one second each fall on two values; the tree reaches 85 % on its own training rows, and 100 % after
# subtracting the first time.
# Versions: scikit-learn 1.9.1, numpy 2.4.6, scipy 1.17.1
# Output seen:
#   scikit-learn 1.9.1 numpy 2.4.6
#   dtype int64 distinct values 100 and in float32 2
#   accuracy on the training rows: 0.85, with times since the first: 1.00
#
# Why it matters: trees explain clusters. With times in seconds, or ids above 16,777,216, the rule that separates two
# clusters exactly is not found, and a threshold it prints is applied to rounded values.
# This engine: its rules are grown on thresholds in float64, and dates are counted in days before the latest date.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
cd "$folder"
venv/bin/python - <<'PYTHON'
import numpy as np
import sklearn
from sklearn.tree import DecisionTreeClassifier

print("scikit-learn", sklearn.__version__, "numpy", np.__version__)
seconds = 1_760_000_000 + np.arange(100)[:, None]
late = (np.arange(100) >= 50).astype(int)
since = seconds - seconds[0]
as_given = DecisionTreeClassifier().fit(seconds, late).score(seconds, late)
shifted = DecisionTreeClassifier().fit(since, late).score(since, late)
distinct, in_float32 = len(np.unique(seconds)), len(np.unique(seconds.astype(np.float32)))
print("dtype", seconds.dtype, "distinct values", distinct, "and in float32", in_float32)
print(f"accuracy on the training rows: {as_given:.2f}, with times since the first: {shifted:.2f}")
if as_given == 1.0:
    raise SystemExit("changed: the tree separates the two classes")
PYTHON

#!/usr/bin/env bash
# KMeans puts most of its own rows into another cluster when it is asked again.
#
# Expected: predict(X) gives labels_ for the rows that the model was fitted on, up to ties.
# Happens: fit subtracts the means first, predict does not. Distances are compared as |c|^2 - 2 x c, whose terms in
# float32 are larger than the differences between clusters if the rows are far from zero: more than half of the rows
# change their cluster.
# Versions: scikit-learn 1.9.1, numpy 2.4.6, scipy 1.17.1
# Output seen:
#   scikit-learn 1.9.1 numpy 2.4.6
#   mean       0, standard deviation 1: labels_ and predict(X) differ for 0% of the rows
#   mean   10000, standard deviation 1: labels_ and predict(X) differ for 86% of the rows
#
# Why it matters: members are scored every night with the model of last month. They seem to move between clusters
# although neither they nor the model have changed.
# This engine: labels are the nearest centre by distances evaluated in float64, in fit and in predict.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
cd "$folder"
venv/bin/python - <<'PYTHON'
import numpy as np
import sklearn
from sklearn.cluster import KMeans

print("scikit-learn", sklearn.__version__, "numpy", np.__version__)
random = np.random.default_rng(0)
for mean in (0.0, 1e4):
    X = random.normal(mean, 1.0, (5000, 10)).astype(np.float32)
    model = KMeans(8, n_init=1, random_state=0).fit(X)
    changed = float((model.labels_ != model.predict(X)).mean())
    print(f"mean {mean:7g}, standard deviation 1: labels_ and predict(X) differ for {changed:.0%} of the rows")
if changed < 0.1:
    raise SystemExit("changed: fit and predict agree")
PYTHON

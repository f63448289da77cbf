#!/usr/bin/env bash
# A row of zeros is in cluster 0 by cosine distance, whatever the centres are.
#
# Expected: a row without a direction is refused, or marked, or as far from every centre as can be.
# Happens: SciPy gives NaN and says nothing, and argmin takes the first NaN for the smallest number: cluster 0.
# scikit-learn gives 1 to every centre, which argmin also turns into cluster 0, and a distance of 0 from the row to
# itself.
# Versions: scipy 1.17.1, scikit-learn 1.9.1, numpy 2.4.6
# Output seen:
#   scipy 1.17.1 scikit-learn 1.9.1
#   centres [[1.0, 0.0], [0.0, 1.0]]
#     scipy        [[nan, nan], [1.0, 0.0]] clusters [0, 1]
#     scikit-learn [[1.0, 1.0], [1.0, 0.0]] clusters [0, 1]
#   centres [[0.0, 1.0], [1.0, 0.0]]
#     scipy        [[nan, nan], [0.0, 1.0]] clusters [0, 0]
#     scikit-learn [[1.0, 1.0], [0.0, 1.0]] clusters [0, 0]
#
# Why it matters: members without a single rating are rows of zeros, often the most frequent row of a table. They all
# swell cluster 0, which is then described by what they have not done.
# This engine: it clusters by Euclidean distance, where a row of zeros is a row like others, and K-Means raises on NaN
# and infinity.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile scipy==1.17.1 scikit-learn==1.9.1 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import numpy as np
import scipy
import sklearn
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import cosine_distances

print("scipy", scipy.__version__, "scikit-learn", sklearn.__version__)
rows = np.array([[0.0, 0.0], [0.0, 5.0]])
found = []
for centres in (np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])):
    by_scipy, by_sklearn = cdist(rows, centres, "cosine"), cosine_distances(rows, centres)
    found.append(int(by_scipy.argmin(axis=1)[0]))
    print("centres", centres.tolist())
    print("  scipy       ", by_scipy.tolist(), "clusters", by_scipy.argmin(axis=1).tolist())
    print("  scikit-learn", by_sklearn.tolist(), "clusters", by_sklearn.argmin(axis=1).tolist())
if found != [0, 0] or not np.isnan(by_scipy[0]).all():
    raise SystemExit("changed: the row of zeros has distances")
PYTHON

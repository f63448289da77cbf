#!/usr/bin/env bash
# A perfect clustering has the worst Calinski-Harabasz score.
#
# Expected: the score is the scatter between clusters divided by that within them, so it grows without limit as
# clusters become tight.
# Happens: it grows up to a spread of exactly 0 and is then 1.0, below that of any clustering with some structure. The
# silhouette is 1.0 there, as one would expect.
# Versions: scikit-learn 1.9.1, numpy 2.4.6, scipy 1.17.1
# Output seen:
#   scikit-learn 1.9.1
#   spread   0.3: Calinski-Harabasz 97.04, silhouette 0.5184
#   spread  0.01: Calinski-Harabasz 7.386e+04, silhouette 0.9830
#   spread 1e-06: Calinski-Harabasz 7.344e+12, silhouette 1.0000
#   spread     0: Calinski-Harabasz 1, silhouette 1.0000
#
# Why it matters: profiles of few coarse answers repeat. At the k that gives each distinct profile its own cluster,
# the score falls from its maximum to its minimum, and a search for the best k chooses another one.
# This engine: it gives the same 1.0 in elbow.csv, to agree with scikit-learn, and does not choose k by this score:
# the elbow of the inertia decides, then the silhouette.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
cd "$folder"
venv/bin/python - <<'PYTHON'
import numpy as np
import sklearn
from sklearn.metrics import calinski_harabasz_score, silhouette_score

print("scikit-learn", sklearn.__version__)
labels = np.repeat([0, 1, 2], 20)
corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])[labels]
noise = np.random.default_rng(0).normal(size=corners.shape)
found = {}
for spread in (0.3, 0.01, 1e-6, 0.0):
    X = corners + spread * noise
    found[spread] = calinski_harabasz_score(X, labels)
    print(f"spread {spread:5g}: Calinski-Harabasz {found[spread]:.4g}, silhouette {silhouette_score(X, labels):.4f}")
if found[0.0] > found[0.3]:
    raise SystemExit("changed: no spread is better than some")
PYTHON

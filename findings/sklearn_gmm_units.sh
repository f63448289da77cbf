#!/usr/bin/env bash
# GaussianMixture loses the clusters when the unit of the columns makes small numbers.
#
# Expected: each component has a covariance matrix of its own, so the unit of a column does not matter.
# Happens: reg_covar adds 1e-6 to every variance in the units of the data. With a spread of 1e-4 the added variance is
# a hundred times the true one: three clusters that lie six standard deviations apart become one, predict puts all
# rows into one component, and no warning is given.
# Versions: scikit-learn 1.9.1, numpy 2.4.6, scipy 1.17.1
# Output seen:
#   scikit-learn 1.9.1 numpy 2.4.6
#   spread      1: adjusted Rand index 0.99, components by BIC 3
#   spread   0.01: adjusted Rand index 0.99, components by BIC 3
#   spread 0.0001: adjusted Rand index 0.00, components by BIC 1
#
# Why it matters: rates per day and shares of a total are small numbers. The mixture finds nothing there, and its BIC
# chooses one component.
# This engine: it has no mixture model, and it scales columns to unit variance before K-Means, so that no constant
# meets the units of the data.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
cd "$folder"
venv/bin/python - <<'PYTHON'
import numpy as np
import sklearn
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

print("scikit-learn", sklearn.__version__, "numpy", np.__version__)
truth = np.repeat([0, 1, 2], 200)
X = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])[truth] + np.random.default_rng(0).normal(size=(600, 2))
for unit in (1.0, 1e-2, 1e-4):
    models = [GaussianMixture(k, random_state=0).fit(unit * X) for k in (1, 2, 3, 4)]
    found = adjusted_rand_score(truth, models[2].predict(unit * X))
    best = 1 + int(np.argmin([model.bic(unit * X) for model in models]))
    print(f"spread {unit:6g}: adjusted Rand index {found:.2f}, components by BIC {best}")
if found > 0.9:
    raise SystemExit("changed: small units have the same clusters")
PYTHON

#!/usr/bin/env bash
# PCA of float32 rows far from zero finds components that are not there.
#
# Expected: a constant added to a column changes no variance, so float32 costs a few digits at most.
# Happens: for many more rows than columns the solver "auto" computes X.T @ X in float32 and subtracts the means
# afterwards. With mean 1000 and standard deviation 0.1 the first variance is a thousand times too large and half of
# the others are 0; float64 is right. The exact figures depend on the BLAS library.
# Versions: scikit-learn 1.9.1, numpy 2.4.6, scipy 1.17.1
# Output seen:
#   scikit-learn 1.9.1 numpy 2.4.6
#   float32: first variance 12.0106 last 0.0000 exactly 0: 10 of 20
#   float64: first variance 0.0120 last 0.0083 exactly 0: 0 of 20
#
# Why it matters: years, prices and sums of ratings have such means. The number of components for a share of variance
# becomes 1, and clusters follow rounding errors.
# This engine: its PCA centres blocks of rows in float64 whatever the type of the rows; benchmarks/results/pca.json
# has the error of both with means at 10,000 standard deviations.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
cd "$folder"
venv/bin/python - <<'PYTHON'
import numpy as np
import sklearn
from sklearn.decomposition import PCA

print("scikit-learn", sklearn.__version__, "numpy", np.__version__)
X = np.random.default_rng(0).normal(1000.0, 0.1, (2000, 20)).astype(np.float32)
single, double = PCA().fit(X).explained_variance_, PCA().fit(X.astype(np.float64)).explained_variance_
for name, variances in (("float32", single), ("float64", double)):
    zeros = int((variances == 0).sum())
    print(f"{name}: first variance {variances[0]:.4f} last {variances[-1]:.4f} exactly 0: {zeros} of 20")
if single[0] < 2 * double[0]:
    raise SystemExit("changed: float32 rows far from zero have the right variances")
PYTHON

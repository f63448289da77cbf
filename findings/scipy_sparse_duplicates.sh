#!/usr/bin/env bash
# Sparse rows that hold an entry twice are normalised and weighted wrongly.
#
# Expected: two entries at the same place count as their sum, as toarray() and products of matrices take them, so a
# scaler gives the result of the dense matrix.
# Happens: normalize and TfidfTransformer go through stored entries: a row with 1 + 2 and 3 is divided by sqrt(1 + 4 +
# 9) instead of sqrt(9 + 9), and a term that is stored twice is counted as two documents. sum_duplicates() before
# cures it.
# Versions: scikit-learn 1.9.1, numpy 2.4.6, scipy 1.17.1
# Output seen:
#   scikit-learn 1.9.1 scipy 1.17.1
#   the matrix               [[3.0, 3.0], [4.0, 0.0]]
#   normalize, sparse        [[0.8018, 0.8018], [1.0, 0.0]] row lengths [1.1339, 1.0]
#   normalize, dense         [[0.7071, 0.7071], [1.0, 0.0]]
#   idf, sparse and dense    [0.7123, 1.4055] [1.0, 1.4055]
#
# Why it matters: a table of plays, one line each, becomes a csr_matrix with such entries. Users with repeated plays
# get shorter vectors and go to other clusters.
# This engine: its ratings are summed per user in one pass, every rating of an item counted, and no sparse matrix is
# built.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
cd "$folder"
venv/bin/python - <<'PYTHON'
import numpy as np
import scipy.sparse
import sklearn
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.preprocessing import normalize

print("scikit-learn", sklearn.__version__, "scipy", scipy.__version__)
plays, columns, ends = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0, 0, 1, 0]), np.array([0, 3, 4])
X = scipy.sparse.csr_matrix((plays, columns, ends), shape=(2, 2))
as_stored, as_dense = normalize(X).toarray(), normalize(X.toarray())
print("the matrix              ", X.toarray().tolist())
lengths = np.linalg.norm(as_stored, axis=1).round(4).tolist()
print("normalize, sparse       ", as_stored.round(4).tolist(), "row lengths", lengths)
print("normalize, dense        ", as_dense.round(4).tolist())
print("idf, sparse and dense   ", *(TfidfTransformer().fit(one).idf_.round(4).tolist() for one in (X, X.toarray())))
if np.allclose(as_stored, as_dense):
    raise SystemExit("changed: repeated entries count as their sum")
PYTHON

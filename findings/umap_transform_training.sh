#!/usr/bin/env bash
# UMAP moves the rows of its training table when one of them is left out.
#
# Expected: with a random_state, transform gives a training row its place in embedding_, or one near it, whichever
# other rows are asked about.
# Happens: the whole training table is recognised by its hash and gets its old places exactly. Without the last row it
# is taken for new data and placed anew, and some rows move by more than a tenth of the width of the map.
# Versions: umap-learn 0.5.12, numba 0.68.1, scikit-learn 1.9.1, numpy 2.4.6, scipy 1.17.1
# Output seen:
#   umap-learn 0.5.12 numpy 2.4.6
#   the map is 15.4 wide
#   all training rows move by up to 0.00, without the last one by up to 2.39
#
# Why it matters: members of the fit are looked up later in other tables. A test that transforms the training table
# shows no difference at all, and every other table moves the same members.
# This engine: the place that its t-SNE map gives to a row depends on the row and the landmarks alone, whatever table
# it comes in (engine/tsne/transform.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile umap-learn==0.5.12 numba==0.68.1 scikit-learn==1.9.1 \
    numpy==2.4.6 scipy==1.17.1
cd "$folder"
venv/bin/python - <<'PYTHON'
import warnings

import numpy as np

warnings.simplefilter("ignore")  # of a library that is not needed, and of the number of threads
import umap

print("umap-learn", umap.__version__, "numpy", np.__version__)
X = np.random.default_rng(0).normal(size=(200, 5)) + np.repeat([[0.0], [4.0]], 100, axis=0)
model = umap.UMAP(random_state=0, n_epochs=100).fit(X)
width = float(np.ptp(model.embedding_, axis=0).max())
whole = float(np.abs(model.transform(X) - model.embedding_).max())
without_one = float(np.abs(model.transform(X[:-1]) - model.embedding_[:-1]).max())
print(f"the map is {width:.1f} wide")
print(f"all training rows move by up to {whole:.2f}, without the last one by up to {without_one:.2f}")
if without_one < 0.01 * width:
    raise SystemExit("changed: training rows keep their places")
PYTHON

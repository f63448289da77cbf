#!/usr/bin/env bash
# t-SNE reports the largest number there is as its divergence.
#
# Expected: kl_divergence_ is the Kullback-Leibler divergence of the embedding, a small number.
# Happens: the first 250 iterations are the early exaggeration, in which the divergence is not kept. With
# max_iter=250, the least that is allowed, kl_divergence_ is 1.797e+308; with 251 it is a normal number. No warning is
# given.
# Versions: scikit-learn 1.9.1, numpy 2.4.6, scipy 1.17.1
# Output seen:
#   scikit-learn 1.9.1 numpy 2.4.6
#   {250: 1.7976931348623157e+308, 251: 1.7958284616470337, 300: 0.6120328903198242}
#
# Why it matters: short runs are how one chooses among perplexities and starts. An average of such figures is
# infinite, and a comparison finds all of them equal.
# This engine: the divergence is computed from the final embedding, whatever the number of iterations.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
cd "$folder"
venv/bin/python - <<'PYTHON'
import numpy as np
import sklearn
from sklearn.manifold import TSNE

print("scikit-learn", sklearn.__version__, "numpy", np.__version__)
X = np.random.default_rng(0).normal(size=(100, 5))
found = {n: float(TSNE(max_iter=n, random_state=0).fit(X).kl_divergence_) for n in (250, 251, 300)}
print(found)
if found[250] < 1e300:
    raise SystemExit("changed: the divergence is that of the embedding")
PYTHON

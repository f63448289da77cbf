#!/usr/bin/env bash
# fcluster gives one cluster where five were asked for.
#
# Expected: "maxclust" with t=5 cuts the tree of six rows into five clusters.
# Happens: the tree is cut at a height, and merges of equal height are undone together or not at all. Six rows at
# equal steps give 1 cluster for every t from 1 to 5 by single linkage, and 3 for t=3, 4 and 5 by average and ward
# linkage. No warning is given; cut_tree counts merges and gives five.
# Versions: scipy 1.17.1, numpy 2.4.6
# Output seen:
#   scipy 1.17.1
#   single   asked for [1, 2, 3, 4, 5, 6], fcluster gives [1, 1, 1, 1, 1, 6], cut_tree [1, 2, 3, 4, 5, 6]
#   average  asked for [1, 2, 3, 4, 5, 6], fcluster gives [1, 2, 3, 3, 3, 6], cut_tree [1, 2, 3, 4, 5, 6]
#   ward     asked for [1, 2, 3, 4, 5, 6], fcluster gives [1, 2, 3, 3, 3, 6], cut_tree [1, 2, 3, 4, 5, 6]
#
# Why it matters: answers on a scale have equal steps, so ties are the rule. A loop over the number of clusters
# compares the same clustering with itself under several names.
# This engine: it has no hierarchical clustering. K-Means returns the number of clusters asked for, and warns if there
# are fewer distinct rows.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile scipy==1.17.1 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import numpy as np
import scipy
from scipy.cluster.hierarchy import cut_tree, fcluster, linkage

print("scipy", scipy.__version__)
X = np.arange(6.0)[:, None]
asked = list(range(1, 7))
for method in ("single", "average", "ward"):
    tree = linkage(X, method)
    given = [len(set(fcluster(tree, t, "maxclust"))) for t in asked]
    by_count = [len(set(cut_tree(tree, n_clusters=t)[:, 0])) for t in asked]
    print(f"{method:8} asked for {asked}, fcluster gives {given}, cut_tree {by_count}")
if given == asked:
    raise SystemExit("changed: fcluster gives as many clusters as asked for")
PYTHON

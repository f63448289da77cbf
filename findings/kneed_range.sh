#!/usr/bin/env bash
# kneed finds an elbow in a curve that has none, and it moves with the range that was tried.
#
# Expected: the curve 1/k looks the same at every scale and has no elbow: None, or the same k for every range.
# Happens: the curve is scaled to the unit square first, so the farthest point from the diagonal depends on its ends.
# Trying up to 20, 50 or 100 clusters gives 5, 7 or 10, about the square root of the largest k.
# Versions: kneed 0.9.0, numpy 2.4.6, scipy 1.17.1
# Output seen:
#   kneed 0.9.0
#   1/k for k = 1 to 20: elbow at 5
#   1/k for k = 1 to 50: elbow at 7
#   1/k for k = 1 to 100: elbow at 10
#
# Why it matters: inertia of profiles without clear clusters falls like this. "The elbow is at 7" then says only that
# somebody tried up to 50.
# This engine: it uses kneed for -k auto and names the range in its reason ("the inertia over k = 2 to 20 has its
# elbow at ..."). Where the choice matters, try a second range and look at the silhouette in elbow.csv.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile kneed==0.9.0 numpy==2.4.6 scipy==1.17.1
cd "$folder"
venv/bin/python - <<'PYTHON'
from importlib.metadata import version

import numpy as np
from kneed import KneeLocator

print("kneed", version("kneed"))
found = []
for largest in (20, 50, 100):
    k = np.arange(1, largest + 1)
    found.append(int(KneeLocator(k, 1 / k, curve="convex", direction="decreasing").knee))
    print(f"1/k for k = 1 to {largest}: elbow at {found[-1]}")
if len(set(found)) == 1:
    raise SystemExit("changed: the elbow does not follow the range")
PYTHON

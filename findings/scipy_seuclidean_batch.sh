#!/usr/bin/env bash
# The nearest centre by standardised distance depends on which other rows are asked about.
#
# Expected: cdist(X, centres)[i] depends on row i and the centres.
# Happens: without V, "seuclidean" divides by the variances of the rows and centres of this very call, taken together
# (and "mahalanobis" by their covariance). One more row in the batch changes the scale of a column, and the first row
# goes to another centre.
# Versions: scipy 1.17.1, numpy 2.4.6
# Output seen:
#   scipy 1.17.1
#   row [6.0, 0.0] beside [0.0, 0.0]: distances [1.225, 2.16], nearest centre 0
#   row [6.0, 0.0] beside [0.0, 40.0]: distances [1.225, 0.831], nearest centre 1
#   row [6.0, 0.0] with variances given: distances [1.2, 2.154]
#
# Why it matters: new members are assigned in batches of any size. The same member gets another cluster next to other
# members, and nobody sees it, as each call by itself is plausible.
# This engine: the scale of each column is stored in the model when it is fitted, and a row is encoded and assigned by
# itself: the bits do not depend on its block.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile scipy==1.17.1 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import numpy as np
import scipy
from scipy.spatial.distance import cdist

print("scipy", scipy.__version__)
centres = np.array([[0.0, 0.0], [10.0, 3.0]])
row = [6.0, 0.0]
nearest = []
for other in ([0.0, 0.0], [0.0, 40.0]):
    distances = cdist(np.array([row, other]), centres, "seuclidean")[0]
    nearest.append(int(distances.argmin()))
    print(f"row {row} beside {other}: distances {distances.round(3).tolist()}, nearest centre {nearest[-1]}")
fixed = cdist(np.array([row]), centres, "seuclidean", V=[25.0, 2.25])[0]
print(f"row {row} with variances given: distances {fixed.round(3).tolist()}")
if nearest[0] == nearest[1]:
    raise SystemExit("changed: the other row of the batch does not matter")
PYTHON

#!/usr/bin/env bash
# The mean of a float32 column depends on the order of the matrix in memory, by two percent.
#
# Expected: X.mean(axis=0)[0] and X[:, 0].mean() are the same number, or differ in the last digits.
# Happens: over the last axis NumPy adds pairwise, over the first axis of a row-major matrix it adds row by row into
# one float32. With four million rows of 1000.1 the mean is 1020.5, as each addition is rounded to the spacing of
# float32 at the sum so far.
# Versions: numpy 2.4.6
# Output seen:
#   numpy 2.4.6
#   X.mean(axis=0), row-major     1020.497
#   X.mean(axis=0), column-major  1000.100
#   X[:, 0].mean()                1000.100
#
# Why it matters: profiles are row-major float32 matrices, and axis=0 is the mean of a feature. Centring, scaling and
# centres of clusters that are computed this way are wrong for large tables, and right in every small test.
# This engine: its sums of rows are taken in float64 or in exact fixed point, in blocks, so that they do not depend on
# layout, threads or block size.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import numpy as np

print("numpy", np.__version__)
X = np.full((4_000_000, 2), 1000.1, np.float32)
rows, column = float(X.mean(axis=0)[0]), float(X[:, 0].mean())
columns = float(np.asfortranarray(X).mean(axis=0)[0])
print(f"X.mean(axis=0), row-major     {rows:.3f}")
print(f"X.mean(axis=0), column-major  {columns:.3f}")
print(f"X[:, 0].mean()                {column:.3f}")
if abs(rows - column) < 1:
    raise SystemExit("changed: the mean over rows is as precise as that of a column")
PYTHON

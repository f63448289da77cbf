#!/usr/bin/env bash
# np.histogram in numba counts none of the values of a column that is constant.
#
# Expected: as in NumPy, which widens a range of no width by a half on each side: all 1000 values are in one bin.
# Happens: compiled by numba, np.histogram(a, bins) takes the least and the largest value as they are; where they are
# equal, every bin has the count 0, and nothing is raised. With a range, as np.histogram(a, 4, (36.5, 37.5)), both agree.
# Versions: numba 0.68.1, numpy 2.4.6
# Output seen:
#   numba 0.68.1, numpy 2.4.6
#   constant: numpy [0, 0, 1000, 0], numba [0, 0, 0, 0]
#   two values: numpy [500, 0, 0, 500], numba [500, 0, 0, 500]
#   constant, with a range: numpy [0, 0, 1000, 0], numba [0, 0, 1000, 0]
#
# Why it matters: kernels that profile or bin columns divide by the sum of the counts, or find quantiles in their running
# sum; a column that is constant within a block of rows then has no rows at all.
# This engine: no kernel calls np.histogram.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile numba==0.68.1 numpy==2.4.6
cd "$folder"
cat > histogram.py <<'PYTHON'
import numba
import numpy as np


@numba.njit
def count(values):
    return np.histogram(values, 4)[0]


@numba.njit
def count_in_range(values):
    return np.histogram(values, 4, (36.5, 37.5))[0]


constant, two = np.full(1000, 37.0), np.repeat([1.0, 2.0], 500)
found = {
    "constant": (np.histogram(constant, 4)[0].tolist(), count(constant).tolist()),
    "two values": (np.histogram(two, 4)[0].tolist(), count(two).tolist()),
    "constant, with a range": (
        np.histogram(constant, 4, (36.5, 37.5))[0].tolist(),
        count_in_range(constant).tolist(),
    ),
}
print(f"numba {numba.__version__}, numpy {np.__version__}")
for name, (by_numpy, by_numba) in found.items():
    print(f"{name}: numpy {by_numpy}, numba {by_numba}")
if found["constant"] != ([0, 0, 1000, 0], [0, 0, 0, 0]) or any(a != b for a, b in list(found.values())[1:]):
    raise SystemExit("changed: the counts are others")
PYTHON
venv/bin/python histogram.py

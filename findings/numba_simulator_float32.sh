#!/usr/bin/env bash
# The CUDA simulator of Numba computes in float32 what the compiler computes in float64.
#
# Expected: a kernel gives the same numbers in the simulator as when it is compiled, as both run the same source.
# Happens: Numba types x[i] * 0.1 as float64 if x is float32. The simulator runs it in Python on NumPy scalars, which
# keep float32 when the other side is a Python number. The result is float32, and whole numbers of int32 overflow
# where the compiled kernel has int64. The compiled side here is njit on the CPU, which has the same rules of types.
# Versions: numba 0.68.1, numpy 2.4.6
# Output seen:
#   numba 0.68.1 numpy 2.4.6
#   simulated x * 0.1 = [0.30000001192092896, 0.699999988079071], 3 * whole = [15, -1073741824]
#   compiled  x * 0.1 = [0.30000000000000004, 0.7000000000000001], 3 * whole = [15, 3221225472]
#
# Why it matters: a kernel is tested in the simulator where there is no GPU. Ties, thresholds and sums that pass there
# are other ones than on the device, in both directions.
# This engine: its GPU code is array code for CuPy or NumPy, tested without a simulator; kernels that loop are
# compiled for the CPU in tests.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile numba==0.68.1 numpy==2.4.6
cd "$folder"
NUMBA_ENABLE_CUDASIM=1 venv/bin/python - <<'PYTHON'
import warnings

import numba
import numpy as np
from numba import cuda, njit

print("numba", numba.__version__, "numpy", np.__version__)


@cuda.jit
def simulated(x, whole, tenth, triple):
    i = cuda.grid(1)
    if i < x.size:
        tenth[i] = x[i] * 0.1
        triple[i] = whole[i] * 3


@njit
def compiled(x, whole, tenth, triple):
    for i in range(x.size):
        tenth[i] = x[i] * 0.1
        triple[i] = whole[i] * 3


x, whole = np.array([3.0, 7.0], np.float32), np.array([5, 2**30], np.int32)
found = {}
for name, kernel in (("simulated", simulated[1, 32]), ("compiled", compiled)):
    tenth, triple = np.zeros(2), np.zeros(2, np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns of the overflow in the simulator
        kernel(x, whole, tenth, triple)
    found[name] = (tenth.tolist(), triple.tolist())
    print(f"{name:9} x * 0.1 = {found[name][0]}, 3 * whole = {found[name][1]}")
if found["simulated"] == found["compiled"]:
    raise SystemExit("changed: the simulator has the types of the compiler")
PYTHON

#!/usr/bin/env bash
# np.sign in numba says 255 of the unsigned byte 200: the upper half of every unsigned type is taken as negative.
#
# Expected: the sign of an unsigned number is 0 or 1, as in NumPy.
# Happens: compiled by numba, np.sign compares unsigned numbers as signed ones: from half of the range on it returns -1
# in the unsigned type, which is 255 for bytes and 18446744073709551615 for uint64. Below the half it is right.
# Versions: numba 0.68.1, numpy 2.4.6
# Output seen:
#   numba 0.68.1, numpy 2.4.6
#   uint8 [0, 127, 128, 200]: numpy [0, 1, 1, 1], numba [0, 1, 255, 255]
#   uint32 [0, 2147483647, 2147483648, 3000000000]: numpy [0, 1, 1, 1], numba [0, 1, 4294967295, 4294967295]
#   uint64 [0, 9223372036854775807, 9223372036854775808]: numpy [0, 1, 1], numba [0, 1, 18446744073709551615]
#
# Why it matters: "has any" flags of unsigned counts, hashes and quantized features come out right in tests with small
# numbers, and wrong in tables of many people.
# This engine: no kernel calls np.sign.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile numba==0.68.1 numpy==2.4.6
cd "$folder"
cat > signs.py <<'PYTHON'
import numba
import numpy as np


@numba.njit
def sign(values):
    return np.sign(values)


print(f"numba {numba.__version__}, numpy {np.__version__}")
as_expected = True
for kind, numbers in (
    (np.uint8, [0, 127, 128, 200]),
    (np.uint32, [0, 2**31 - 1, 2**31, 3_000_000_000]),
    (np.uint64, [0, 2**63 - 1, 2**63]),
):
    values = np.array(numbers, kind)
    by_numpy, by_numba = np.sign(values).tolist(), sign(values).tolist()
    print(f"{kind.__name__} {numbers}: numpy {by_numpy}, numba {by_numba}")
    minus_one = int(np.iinfo(kind).max)
    as_expected &= by_numba == [minus_one if n > minus_one // 2 else int(n > 0) for n in numbers]
if not as_expected:
    raise SystemExit("changed: the signs are others")
PYTHON
venv/bin/python signs.py

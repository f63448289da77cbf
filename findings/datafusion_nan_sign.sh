#!/usr/bin/env bash
# DataFusion sorts NaN below or above all numbers by a bit that nobody sees.
#
# Expected: all NaN values compare alike: x >= 30 is true for all of them or for none.
# Happens: comparisons follow the total order of IEEE 754, in which the sign bit of NaN counts. A NaN with the sign
# bit is below minus infinity, one without is above infinity; both print as nan. On x86, 0.0 / 0.0 gives the one with
# the sign bit.
# Versions: datafusion 55.0.0, pyarrow 26.0.1, numpy 2.4.6
# Output seen:
#   datafusion 55.0.0 pyarrow 26.0.1
#   {'x': nan, 'nan': True, 'high': True, 'low': False}
#   {'x': nan, 'nan': True, 'high': False, 'low': True}
#
# Why it matters: a share of nothing (0 of 0 ratings) and a missing value from a file are both NaN, and a rule puts
# the two members on different sides of its threshold.
# This engine: missing values are NULL in the SQL that it writes, and its header asks to make NaN NULL first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile datafusion==55.0.0 pyarrow==26.0.1 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import datafusion
import numpy as np
import pyarrow as pa

print("datafusion", datafusion.__version__, "pyarrow", pa.__version__)
values = np.array([np.copysign(np.nan, 1.0), np.copysign(np.nan, -1.0)])
context = datafusion.SessionContext()
context.register_record_batches("profiles", [pa.table({"x": values}).to_batches()])
found = context.sql("SELECT x, isnan(x) AS nan, x >= 30 AS high, x < 30 AS low FROM profiles").to_pydict()
for row in zip(*found.values()):
    print(dict(zip(found, row)))
if found["high"][0] == found["high"][1]:
    raise SystemExit("changed: both NaN compare alike")
PYTHON

#!/usr/bin/env bash
# One narwhals expression gives three answers for the same column in pandas, Polars and Arrow.
#
# Expected: the layer that hides the library also hides how the library treats NaN, so that a program has one answer.
# Happens: null_count, mean and a comparison are passed on. pandas takes NaN for missing (mean 20.5 without it),
# Polars for a number above all others (mean NaN, x >= 30 true), Arrow for a number that compares with nothing (mean
# NaN, x >= 30 false).
# Versions: narwhals 2.29.0, pandas 3.1.1, polars 2.1.0, pyarrow 26.0.1
# Output seen:
#   narwhals 2.29.0 pandas 3.1.1 polars 2.1.0 pyarrow 26.0.1
#   pandas   missing, mean, rows with x >= 30: (1, 20.5, 1)
#   polars   missing, mean, rows with x >= 30: (0, nan, 2)
#   pyarrow  missing, mean, rows with x >= 30: (0, nan, 1)
#
# Why it matters: a library that accepts any data frame by way of narwhals encodes the same profiles differently, and
# the clusters depend on the library that the caller likes.
# This engine: it uses narwhals to hand over rows only. They become Arrow, then NaN and null become the same missing
# value before anything is counted.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile narwhals==2.29.0 pandas==3.1.1 polars==2.1.0 pyarrow==26.0.1
cd "$folder"
venv/bin/python - <<'PYTHON'
import narwhals as nw
import pandas as pd
import polars as pl
import pyarrow as pa

print("narwhals", nw.__version__, "pandas", pd.__version__, "polars", pl.__version__, "pyarrow", pa.__version__)
values = [1.0, 40.0, float("nan")]
found = {}
for name, frame in (
    ("pandas", pd.DataFrame({"x": values})),
    ("polars", pl.DataFrame({"x": values})),
    ("pyarrow", pa.table({"x": values})),
):
    x = nw.col("x")
    read = nw.from_native(frame).select(missing=x.null_count(), mean=x.mean(), high=(x >= 30).sum())
    (row,) = read.rows()
    found[name] = repr(tuple(value.as_py() if hasattr(value, "as_py") else value for value in row))
    print(f"{name:8} missing, mean, rows with x >= 30: {found[name]}")
if len(set(found.values())) == 1:
    raise SystemExit("changed: all three agree")
PYTHON

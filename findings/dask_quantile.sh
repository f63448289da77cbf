#!/usr/bin/env bash
# The 0.9 quantile of a Dask column is its 0.75 quantile if the rows are sorted.
#
# Expected: an approximate quantile is off by a few ranks.
# Happens: the default method computes quantiles of each partition and mixes them by weight. Of 0 to 999 in two sorted
# partitions the 0.9 quantile is 749.5, in four 874.5, and the median is 499 in both. pandas says 899.1.
# Versions: dask[dataframe] 2026.8.0, pandas 3.1.1, numpy 2.4.6, pyarrow 26.0.1
# Output seen:
#   dask 2026.8.0 pandas 3.1.1
#   pandas               [499.5, 899.1, 989.0]
#   dask, 1 partition(s)  [499.5, 899.1, 989.0]
#   dask, 2 partition(s)  [499.0, 749.5, 949.1]
#   dask, 4 partition(s)  [499.0, 874.5, 974.1]
#
# Why it matters: tables are often sorted by date or id, and columns that grow with them (age of the account, number
# of ratings) are cut at quantiles. A limit for outliers at 0.9 then holds back a quarter of the members.
# This engine: quantiles of columns come from one random sample of all rows, drawn in the pass of statistics, not from
# partitions.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile dask[dataframe]==2026.8.0 pandas==3.1.1 numpy==2.4.6 \
    pyarrow==26.0.1
cd "$folder"
venv/bin/python - <<'PYTHON'
import dask
import dask.dataframe
import numpy as np
import pandas as pd

print("dask", dask.__version__, "pandas", pd.__version__)
table = pd.DataFrame({"x": np.arange(1000.0)})
asked = [0.5, 0.9, 0.99]
print("pandas              ", table["x"].quantile(asked).round(1).tolist())
found = []
for n in (1, 2, 4):
    found = dask.dataframe.from_pandas(table, npartitions=n)["x"].quantile(asked).compute().tolist()
    print(f"dask, {n} partition(s) ", [round(value, 1) for value in found])
if abs(found[1] - 899.1) < 10:
    raise SystemExit("changed: the quantile of sorted partitions is about right")
PYTHON

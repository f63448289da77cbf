#!/usr/bin/env bash
# DuckDB reads NaN as NULL from pandas, and as a number above all others from Polars and Arrow.
#
# Expected: the same three numbers in a pandas, a Polars or an Arrow table give the same answer to the same query.
# Happens: NaN of a pandas column arrives as NULL: the average leaves it out and no condition selects it. NaN of a
# Polars or Arrow column stays NaN: the average is NaN, and x >= 30 counts the row.
# Versions: duckdb 2.0.1, pandas 3.1.1, polars 2.1.0, pyarrow 26.0.1
# Output seen:
#   duckdb 2.0.1 pandas 3.1.1 polars 2.1.0 pyarrow 26.0.1
#   of_pandas  rows with x >= 30, rows with NULL, mean: (1, 1, 30.0)
#   of_polars  rows with x >= 30, rows with NULL, mean: (2, 0, nan)
#   of_arrow   rows with x >= 30, rows with NULL, mean: (2, 0, nan)
#
# Why it matters: a rule with x >= 30 assigns members with a missing value to a cluster or not, depending on the
# library that had loaded the same file. Nothing is said.
# This engine: it takes NaN and null for the same missing value in every table and data frame, and so does rules.sql.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile duckdb==2.0.1 pandas==3.1.1 polars==2.1.0 pyarrow==26.0.1
cd "$folder"
venv/bin/python - <<'PYTHON'
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa

print("duckdb", duckdb.__version__, "pandas", pd.__version__, "polars", pl.__version__, "pyarrow", pa.__version__)
values = [20.0, 40.0, float("nan")]
of_pandas, of_polars, of_arrow = pd.DataFrame({"x": values}), pl.DataFrame({"x": values}), pa.table({"x": values})
found = {}
for name in ("of_pandas", "of_polars", "of_arrow"):
    query = f"SELECT count(*) FILTER (x >= 30), count(*) FILTER (x IS NULL), avg(x) FROM {name}"
    found[name] = duckdb.sql(query).fetchall()[0]
    print(f"{name:10} rows with x >= 30, rows with NULL, mean: {found[name]}")
if found["of_pandas"][:2] == found["of_polars"][:2]:
    raise SystemExit("changed: NaN of pandas and of Polars mean the same")
PYTHON

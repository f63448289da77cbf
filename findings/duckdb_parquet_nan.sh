#!/usr/bin/env bash
# DuckDB answers a condition differently for a Parquet file and for a table with the same rows.
#
# Expected: a condition selects the same rows whether a table was loaded from a Parquet file or is the file.
# Happens: DuckDB sorts NaN above all numbers, so in a table NaN >= 30 is true. Writers leave NaN out of the minimum
# and maximum of a column, and DuckDB takes these bounds for the whole truth: in the file isnan(x) is never true, x <
# 30 includes the NaN row and x >= 30 loses it.
# Versions: duckdb 2.0.1, pyarrow 26.0.1
# Output seen:
#   duckdb 2.0.1 pyarrow 26.0.1
#   file                 isnan(x), x < 30, x >= 30 select [0, 3, 0] rows
#   table                isnan(x), x < 30, x >= 30 select [1, 2, 1] rows
#   file, can_have_nan   isnan(x), x < 30, x >= 30 select [1, 2, 1] rows
#
# Why it matters: missing values of profiles are often NaN in Parquet. Counts per rule differ between the file and the
# loaded table, and a check with isnan(x) reports that nothing is missing.
# This engine: it reads NaN as a missing value. rules.sql asks whether x - x = 0, which DuckDB computes for every row, and
# selects the same rows in the file and in the table.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile duckdb==2.0.1 pyarrow==26.0.1
cd "$folder"
venv/bin/python - <<'PYTHON'
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

print("duckdb", duckdb.__version__, "pyarrow", pa.__version__)
pq.write_table(pa.table({"x": [1.0, float("nan"), 5.0]}), "profiles.parquet")
duckdb.sql("CREATE TABLE loaded AS SELECT unnest(['1.0', 'nan', '5.0'])::DOUBLE AS x")
sources = {
    "file": "'profiles.parquet'",
    "table": "loaded",
    "file, can_have_nan": "read_parquet('profiles.parquet', can_have_nan = true)",
}
found = {}
for name, source in sources.items():
    found[name] = [
        duckdb.sql(f"SELECT count(*) FROM {source} WHERE {condition}").fetchall()[0][0]
        for condition in ("isnan(x)", "x < 30", "x >= 30")
    ]
    print(f"{name:20} isnan(x), x < 30, x >= 30 select {found[name]} rows")
if found["file"] == found["table"] or found["table"] != found["file, can_have_nan"]:
    raise SystemExit("changed: file and table agree, or can_have_nan is no cure")
PYTHON

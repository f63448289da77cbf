#!/usr/bin/env bash
# A text column that names the folders of a data set comes back as numbers, and 007 and 7 are one.
#
# Expected: what pyarrow writes as text with partition_cols, pyarrow reads as text.
# Happens: the type of the folder names is guessed. If all of them look like whole numbers, pyarrow and Polars read
# int32 or int64, and the segments 007 and 7 become the same; DuckDB keeps the text.
# Versions: pyarrow 26.0.1, polars 2.1.0, duckdb 2.0.1
# Output seen:
#   pyarrow 26.0.1 polars 2.1.0 duckdb 2.0.1
#   written  ['007', '12', '7']
#   pyarrow  [7, 7, 12]: 2 segments
#   polars   [7, 7, 12]: 2 segments
#   duckdb   ['007', '12', '7']: 3 segments
#
# Why it matters: partition columns are postcodes, plans, cohorts or clusters. Two groups of members merge when the
# folder is read, and an id that was used for the folder no longer finds its row.
# This engine: it reads hive partitions with pyarrow and so has the same values as pyarrow. Give such folders names
# that are no numbers (segment=s007), or keep the column in the files.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile pyarrow==26.0.1 polars==2.1.0 duckdb==2.0.1
cd "$folder"
venv/bin/python - <<'PYTHON'
import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

print("pyarrow", pa.__version__, "polars", pl.__version__, "duckdb", duckdb.__version__)
table = pa.table({"user": [1, 2, 3], "segment": ["007", "7", "12"]})
pq.write_to_dataset(table, "members", partition_cols=["segment"])
files = "members/**/*.parquet"
by_duckdb = duckdb.sql(f"SELECT * FROM read_parquet('{files}', hive_partitioning = true)")
found = {
    "pyarrow": pq.read_table("members")["segment"].to_pylist(),
    "polars": pl.read_parquet(files, hive_partitioning=True)["segment"].to_list(),
    "duckdb": [row[1] for row in by_duckdb.fetchall()],
}
print("written ", sorted(table["segment"].to_pylist()))
for name, values in found.items():
    print(f"{name:8} {sorted(values)}: {len(set(values))} segments")
if len(set(found["pyarrow"])) == 3:
    raise SystemExit("changed: pyarrow reads back what it has written")
PYTHON

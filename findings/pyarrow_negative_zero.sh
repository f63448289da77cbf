#!/usr/bin/env bash
# pyarrow counts 0.0 and -0.0 as two values, where DuckDB and Polars count one.
#
# Expected: values that are equal fall into the same group.
# Happens: pyarrow groups, counts and encodes floating-point values by their bits. Rounding -0.2 gives -0.0, which
# prints as -0, equals 0.0 and is still a group of its own. NaN values do share one.
# Versions: pyarrow 26.0.1, polars 2.1.0, duckdb 2.0.1
# Output seen:
#   pyarrow 26.0.1 polars 2.1.0 duckdb 2.0.1
#   pyarrow groups {'score': [-0.0, 0.0], 'people_sum': [2, 3]} distinct values: 2
#   polars  groups {'score': [-0.0], 'people': [5]}
#   duckdb  groups [(-0.0, 5)]
#
# Why it matters: rounded scores and differences are grouped and counted as categories. A value that half of the
# members have is reported as two values with half the share each, and one of them may fall below the limit for rare
# categories.
# This engine: a floating-point column with the role of a category becomes text before it is counted, and whole
# numbers become integers on the way, so that -0.0 and 0.0 are both "0".
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
import pyarrow.compute as pc

print("pyarrow", pa.__version__, "polars", pl.__version__, "duckdb", duckdb.__version__)
table = pa.table({"score": pc.round(pa.array([-0.2, -0.1, 0.1, 0.2, 0.3])), "people": [1, 1, 1, 1, 1]})
by_arrow = table.group_by("score").aggregate([("people", "sum")]).to_pydict()
by_polars = pl.from_arrow(table).group_by("score").agg(pl.col("people").sum())
by_duckdb = duckdb.sql("SELECT score, sum(people) FROM table GROUP BY score".replace("table", '"table"')).fetchall()
print("pyarrow groups", by_arrow, "distinct values:", pc.count_distinct(table["score"]).as_py())
print("polars  groups", by_polars.to_dict(as_series=False))
print("duckdb  groups", [(score, int(people)) for score, people in by_duckdb])
if len(by_arrow["score"]) != 2 or len(by_polars) != 1:
    raise SystemExit("changed: zeros of both signs are grouped alike")
PYTHON

#!/usr/bin/env bash
# DuckDB rounds the number of a condition to float32 before it compares.
#
# Expected: on a FLOAT column, x >= 0.35 selects the rows whose value, taken exactly, is at least 0.35, as it does for
# x::DOUBLE >= 0.35.
# Happens: the literal 0.35 is rounded to float32 first. Of the 99 thresholds k/100, 50 select another number of rows,
# and COALESCE(x, 0.5) >= 0.35 does not help: its type is FLOAT too.
# Versions: duckdb 2.0.1
# Output seen:
#   duckdb 2.0.1
#   x >= 0.35 selects 65 rows, x::DOUBLE >= 0.35 selects 64
#   thresholds that select other rows than the cast: 50 of 99; with COALESCE: 50
#
# Why it matters: features are often stored as float32, and a rule such as "share >= 0.35" is grown in float64. The
# exported rule then puts the rows on the threshold into another cluster than the model.
# This engine: rules.sql casts every number to DOUBLE PRECISION before it compares.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile duckdb==2.0.1
cd "$folder"
venv/bin/python - <<'PYTHON'
import duckdb

print("duckdb", duckdb.__version__)
duckdb.sql("CREATE TABLE profiles AS SELECT (range / 100)::FLOAT AS x FROM range(1, 100)")


def count(condition):
    return duckdb.sql(f"SELECT count(*) FROM profiles WHERE {condition}").fetchall()[0][0]


thresholds = [k / 100 for k in range(1, 100)]
plain = sum(count(f"x >= {t}") != count(f"x::DOUBLE >= {t}") for t in thresholds)
filled = sum(count(f"COALESCE(x, 0.5) >= {t}") != count(f"x::DOUBLE >= {t}") for t in thresholds)
print("x >= 0.35 selects", count("x >= 0.35"), "rows, x::DOUBLE >= 0.35 selects", count("x::DOUBLE >= 0.35"))
print("thresholds that select other rows than the cast:", plain, "of 99; with COALESCE:", filled)
if plain == 0 or filled == 0:
    raise SystemExit("changed: FLOAT columns are compared as doubles")
PYTHON

#!/usr/bin/env bash
# sqlglot turns a cast that fails to NULL into one that fails to 0.
#
# Expected: a translated query gives the same answer, or the translator says that it cannot express it.
# Happens: TRY_CAST(answer AS INTEGER) becomes CAST(answer AS INTEGER) for SQLite, with no warning even at the level
# that raises for what is unsupported. DuckDB gives NULL for "n/a" and "12 or so"; SQLite gives 0 and 12. Whole
# numbers differ as well: 2.9 is 3 in DuckDB and 2 in SQLite.
# Versions: sqlglot 30.30.0, duckdb 2.0.1, apsw 3.54.1.0
# Output seen:
#   sqlglot 30.30.0 duckdb 2.0.1 sqlite 3.54.1
#   SELECT TRY_CAST('7' AS INTEGER)        DuckDB 7    SELECT CAST('7' AS INTEGER)        SQLite 7
#   SELECT TRY_CAST('n/a' AS INTEGER)      DuckDB None    SELECT CAST('n/a' AS INTEGER)      SQLite 0
#   SELECT TRY_CAST('12 or so' AS INTEGER) DuckDB None    SELECT CAST('12 or so' AS INTEGER) SQLite 12
#   SELECT TRY_CAST(2.9 AS INTEGER)        DuckDB 3    SELECT CAST(2.9 AS INTEGER)        SQLite 2
#
# Why it matters: survey answers are text with a few words among the numbers. After translation, members who gave no
# number have the value 0, which is an answer, and move the means of a cluster.
# This engine: it writes SQL itself, for DuckDB, and casts numbers and booleans only. Marks of missing values are
# recognised when a file is read.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile sqlglot==30.30.0 duckdb==2.0.1 apsw==3.54.1.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import apsw
import duckdb
import sqlglot

print("sqlglot", sqlglot.__version__, "duckdb", duckdb.__version__, "sqlite", apsw.sqlite_lib_version())
found = {}
for value in ("'7'", "'n/a'", "'12 or so'", "2.9"):
    query = f"SELECT TRY_CAST({value} AS INTEGER)"
    (translated,) = sqlglot.transpile(
        query, read="duckdb", write="sqlite", unsupported_level=sqlglot.ErrorLevel.RAISE
    )
    by_duckdb = duckdb.sql(query).fetchall()[0][0]
    by_sqlite = next(apsw.Connection(":memory:").execute(translated))[0]
    found[value] = (by_duckdb, by_sqlite)
    print(f"{query:38} DuckDB {by_duckdb}    {translated:34} SQLite {by_sqlite}")
if found["'n/a'"] != (None, 0):
    raise SystemExit("changed: the translation keeps NULL, or refuses")
PYTHON

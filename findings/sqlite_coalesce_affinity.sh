#!/usr/bin/env bash
# SQLite compares text with a number as soon as a column stands in COALESCE.
#
# Expected: COALESCE("age", 35) >= 27 selects the rows that "age" >= 27 selects, and those without an age.
# Happens: a plain column of type TEXT turns the literal 27 into text, or a numeric column the text into a number
# (affinity); an expression has no affinity. On the TEXT column that a CSV import makes, every text is greater than
# every number: all 99 rows are selected by >= 27 and none by < 27, where the plain column selects 80.
# Versions: apsw 3.54.1.0
# Output seen:
#   sqlite 3.54.1
#   "age"                                rows >= 27 and < 27: (80, 19)
#   COALESCE("age", 35)                  rows >= 27 and < 27: (99, 0)
#   COALESCE(CAST("age" AS REAL), 35)    rows >= 27 and < 27: (73, 26)
#
# Why it matters: COALESCE is how exported rules count a missing value as the fill value of the model. In SQLite such
# a rule puts everybody into the same branch, without an error.
# This engine: rules.sql is written for DuckDB, which compares typed columns. For SQLite, import into columns of type
# REAL or write CAST(... AS REAL) inside COALESCE.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile apsw==3.54.1.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import apsw

print("sqlite", apsw.sqlite_lib_version())
database = apsw.Connection(":memory:")
database.execute("CREATE TABLE profiles (age TEXT)")
database.executemany("INSERT INTO profiles VALUES (?)", [(str(age),) for age in range(1, 100)])
found = {}
for value in ('"age"', 'COALESCE("age", 35)', 'COALESCE(CAST("age" AS REAL), 35)'):
    query = f"SELECT sum({value} >= 27), sum({value} < 27) FROM profiles"
    found[value] = next(database.execute(query))
    print(f"{value:36} rows >= 27 and < 27: {found[value]}")
if found['COALESCE("age", 35)'] == found['COALESCE(CAST("age" AS REAL), 35)']:
    raise SystemExit("changed: COALESCE keeps the affinity of its column")
PYTHON

#!/usr/bin/env bash
# ADBC's SQLite driver cannot read a REAL or TEXT column whose first 1,024 rows are NULL.
#
# Expected: the declared type of a column (REAL, TEXT) decides the Arrow type, or the values do.
# Happens: the driver takes the type from the values of the first batch of 1,024 rows, not from the declaration. If
# they are all NULL it takes int64, and the first number or text after them is an error.
# Versions: adbc-driver-sqlite 1.13.0, adbc-driver-manager 1.13.0
# Output seen:
#   1023 NULLs, then 2.5 in a column of type REAL: double
#   1024 NULLs, then 2.5 in a column of type REAL: OSError
#   1023 NULLs, then 'basic' in a column of type TEXT: string
#   1024 NULLs, then 'basic' in a column of type TEXT: OSError
#
# Why it matters: profile tables are sorted by age or id, and columns that came later are NULL for the oldest members.
# This engine: reads SQLite by Python's sqlite3, and takes the type of a column from the values of all rows.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile adbc-driver-sqlite==1.13.0 adbc-driver-manager==1.13.0 pyarrow==22.0.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import sqlite3

from adbc_driver_sqlite import dbapi

seen = []
for kind, value in (("REAL", 2.5), ("TEXT", "basic")):
    for n_nulls in (1023, 1024):
        path = f"{kind}{n_nulls}.db"
        with sqlite3.connect(path) as database:
            database.execute(f"CREATE TABLE profiles (spent {kind})")
            database.executemany("INSERT INTO profiles VALUES (?)", [(None,)] * n_nulls + [(value,)])
        with dbapi.connect(f"file:{path}") as connection, connection.cursor() as cursor:
            try:
                cursor.execute("SELECT spent FROM profiles")
                result = str(cursor.fetch_arrow_table().schema.field("spent").type)
            except OSError as error:
                result = type(error).__name__
        print(f"{n_nulls} NULLs, then {value!r} in a column of type {kind}: {result}")
        seen.append(result)
if seen != ["double", "OSError", "string", "OSError"]:
    raise SystemExit("changed: the declaration of a column, or later rows, decide its type")
PYTHON

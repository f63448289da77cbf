#!/usr/bin/env bash
# pyarrow turns a number after a date into a date, and cuts the time off a moment after a date; the other order is an error.
#
# Expected: a list of a date and a number has no type in either order; a list of a date and a moment keeps the time.
# Happens: the first value decides. After a date, 5 becomes 1970-01-06 and 13:30 is lost; after a moment, 5 becomes five
# microseconds past 1970; after 2.5, True becomes 1.0. With the values the other way round, each is an error.
# Versions: pyarrow 26.0.1
# Output seen:
#   [date, 5]             date32[day]: 2020-01-01, 1970-01-06
#   [5, date]             ArrowInvalid
#   [date, moment]        date32[day]: 2020-01-01, 2020-01-01
#   [moment, date]        ArrowTypeError
#   [2.5, True]           double: 2.5, 1.0
#   [True, 2.5]           ArrowInvalid
#
# Why it matters: rows that come as Python objects, from JSON or a driver, get dates nobody wrote, and whether that is
# noticed depends on which person comes first.
# This engine: refuses numbers among dates and truth values among numbers by name, and keeps the times of moments.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile pyarrow==26.0.1
cd "$folder"
venv/bin/python - <<'PYTHON'
from datetime import date, datetime

import pyarrow as pa

day, moment = date(2020, 1, 1), datetime(2020, 1, 1, 13, 30)
seen = []
for name, values in {
    "[date, 5]": [day, 5],
    "[5, date]": [5, day],
    "[date, moment]": [day, moment],
    "[moment, date]": [moment, day],
    "[2.5, True]": [2.5, True],
    "[True, 2.5]": [True, 2.5],
}.items():
    try:
        array = pa.array(values)
        result = f"{array.type}: {', '.join(map(str, array.to_pylist()))}"
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        result = type(error).__name__
    seen.append(result)
    print(f"{name:21} {result}")
if seen[0] != "date32[day]: 2020-01-01, 1970-01-06" or seen[2] != "date32[day]: 2020-01-01, 2020-01-01":
    raise SystemExit("changed: the order of values no longer decides")
PYTHON

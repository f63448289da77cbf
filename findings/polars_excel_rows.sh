#!/usr/bin/env bash
# Polars leaves out rows of a sheet whose values it could not read, and reports no missing value.
#
# Expected: a cell that is no number in a column of numbers becomes null, and the table keeps its rows.
# Happens: such a cell (#N/A, or a word below the first thousand rows) does become null, and then every row that is
# null throughout is dropped as an empty row. The null count is 0. drop_empty_rows=False keeps it.
# Versions: polars 2.1.0, fastexcel 0.21.0, openpyxl 3.1.5, pandas 3.1.1
# Output seen:
#   polars 2.1.0 pandas 3.1.1
#   error.xlsx rows in the sheet 4, polars 3 with 0 null, with drop_empty_rows=False 4, pandas 4
#   word.xlsx  rows in the sheet 1502, polars 1501 with 0 null, with drop_empty_rows=False 1502, pandas 1502
#
# Why it matters: a score exported to a sheet of its own no longer lines up with the table of members: every row after
# the first gap belongs to somebody else.
# This engine: it reads sheets with python-calamine, and never drops a row because of missing values.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile polars==2.1.0 fastexcel==0.21.0 openpyxl==3.1.5 \
    pandas==3.1.1
cd "$folder"
venv/bin/python - <<'PYTHON'
import openpyxl
import pandas as pd
import polars as pl

print("polars", pl.__version__, "pandas", pd.__version__)
sheets = {"error.xlsx": [1, 2, "#N/A", 4], "word.xlsx": [*range(1500), "refused", 7]}
dropped = 0
for name, cells in sheets.items():
    book = openpyxl.Workbook()
    for cell in ["score", *cells]:
        book.active.append([cell])
    book.save(name)
    read, kept = pl.read_excel(name), pl.read_excel(name, drop_empty_rows=False)
    print(
        f"{name:10} rows in the sheet {len(cells)}, polars {read.height} with {read['score'].null_count()} null,"
        f" with drop_empty_rows=False {kept.height}, pandas {len(pd.read_excel(name))}"
    )
    dropped += len(cells) - read.height
if dropped == 0:
    raise SystemExit("changed: no row is lost")
PYTHON

#!/usr/bin/env bash
# A CSV data set says that it has more rows than it has: count_rows() counts lines of a header that reading leaves out.
#
# Expected: count_rows() of a data set is the number of rows that to_table() returns.
# Happens: to_table() leaves out the lines that skip_rows_after_names names, and count_rows() counts them. A filter that
# every row passes gives the right number.
# Versions: pyarrow 26.0.1
# Output seen:
#   pyarrow 26.0.1
#   rows read 2, counted 4, counted with a filter 2
#
# Why it matters: exports of surveys (Qualtrics) have three lines of headers, so two lines are left out after the names.
# Shares, samples and row numbers that rest on count_rows() are off by them, once for every file.
# This engine: it counts the rows of CSV files as it reads them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile pyarrow==26.0.1
cd "$folder"
venv/bin/python - <<'PYTHON'
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.dataset as ds

print("pyarrow", pa.__version__)
Path("answers.csv").write_text("age,city\nHow old are you?,Where do you live?\nQID1,QID2\n31,Bonn\n47,Rome\n")
layout = ds.CsvFileFormat(read_options=csv.ReadOptions(skip_rows_after_names=2))
answers = ds.dataset("answers.csv", format=layout)
read, counted = answers.to_table().num_rows, answers.count_rows()
filtered = answers.count_rows(filter=ds.field("age") > 0)
print(f"rows read {read}, counted {counted}, counted with a filter {filtered}")
if counted == read:
    raise SystemExit("changed: count_rows() leaves out the lines that reading leaves out")
PYTHON

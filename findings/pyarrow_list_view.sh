#!/usr/bin/env bash
# A cast from a list view to a list empties the last list.
#
# Expected: a cast between two layouts of the same lists keeps the lists.
# Happens: the last list of the result is empty. The array has one offset too few and fails validate(); through a table,
# the same cast is an error about the size of a buffer.
# Versions: pyarrow 26.0.1
# Output seen:
#   pyarrow 26.0.1
#   list_view [[1, 2], None, [3]]
#   list      [[1, 2], None, []]
#
# Why it matters: Polars and DuckDB hand over views, and a cast to list is what makes them fit libraries that know no
# views. The last row of every batch loses its tags.
# This engine: it builds the list from the lengths and the flattened values (engine/utils/arrow_layouts.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile pyarrow==26.0.1
cd "$folder"
venv/bin/python - <<'PYTHON'
import pyarrow as pa

print("pyarrow", pa.__version__)
views = pa.array([[1, 2], None, [3]], pa.list_view(pa.int32()))
lists = views.cast(pa.list_(pa.int32()))
print("list_view", views.to_pylist())
print("list     ", lists.to_pylist())
if lists.to_pylist() == views.to_pylist():
    raise SystemExit("changed: the cast keeps all lists")
PYTHON

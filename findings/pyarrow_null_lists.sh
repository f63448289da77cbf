#!/usr/bin/env bash
# pyarrow cannot cast a table with lists of nulls to the schema that it has.
#
# Expected: a table that is cast to its own schema is the same table, as it is for every other type.
# Happens: for lists of which nothing but nulls is known (list<null>, the type of a column whose answers are all unknown),
# Table.cast raises ArrowInvalid as soon as a list has two nulls: the values have become as many as there are lists. Cast to
# lists of texts, the same table is right.
# Versions: pyarrow 26.0.1
# Output seen:
#   pyarrow 26.0.1
#   lists of one null, to their own type: right
#   lists of two nulls, to their own type: ArrowInvalid: Column 0: In chunk 0: Invalid: Length spanned by list offsets (2) larg ...
#   lists of two nulls, to lists of texts: right
#
# Why it matters: a reader brings the parts of a table to one schema; a part in which nobody has answered fails, and only
# where another column, such as one of decimals, makes the cast necessary.
# This engine: columns that have their type already are not cast.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile pyarrow==26.0.1
cd "$folder"
cat > cast.py <<'PYTHON'
import pyarrow as pa


def cast(values: list[list[None]], kind: pa.DataType) -> str:
    table = pa.table({"answers": pa.array(values, pa.list_(pa.null()))})
    try:
        found = table.cast(pa.schema([("answers", kind)]))
    except pa.ArrowInvalid as error:
        return f"ArrowInvalid: {str(error)[:70]} ..."
    return "right" if found.column("answers").to_pylist() == values else "other values"


print(f"pyarrow {pa.__version__}")
one = cast([[None], [None]], pa.list_(pa.null()))
print(f"lists of one null, to their own type: {one}")
two = cast([[None, None]], pa.list_(pa.null()))
print(f"lists of two nulls, to their own type: {two}")
texts = cast([[None, None]], pa.list_(pa.string()))
print(f"lists of two nulls, to lists of texts: {texts}")
if one != "right" or texts != "right" or not two.startswith("ArrowInvalid"):
    raise SystemExit("changed: lists of nulls are cast in another way")
PYTHON
venv/bin/python cast.py

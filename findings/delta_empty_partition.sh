#!/usr/bin/env bash
# Delta Lake gives an empty text back as null if its column is a partition column.
#
# Expected: a table that is written and read again has the same values, however it is partitioned.
# Happens: the protocol stores partition values as text and defines the empty text as null. The same column keeps ""
# and null apart when the table is not partitioned by it.
# Versions: deltalake 1.6.6, pyarrow 26.0.1
# Output seen:
#   deltalake 1.6.6 pyarrow 26.0.1
#   plain    {1: '', 2: 'basic', 3: None}
#   by_plan  {1: None, 2: 'basic', 3: None}
#
# Why it matters: "" (no plan) and null (not asked) are two answers of a survey. They become one by a choice that
# should only concern the layout of files, and the share of missing values rises.
# This engine: it does not read Delta tables itself. In text columns of CSV files an empty field is a missing value
# for it as well; keep such columns out of the partition columns, or give the empty answer a name.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile deltalake==1.6.6 pyarrow==26.0.1
cd "$folder"
venv/bin/python - <<'PYTHON'
import deltalake
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

print("deltalake", deltalake.__version__, "pyarrow", pa.__version__)
table = pa.table({"user": [1, 2, 3], "plan": ["", "basic", None]})
write_deltalake("plain", table)
write_deltalake("by_plan", table, partition_by=["plan"])
found = {}
for name in ("plain", "by_plan"):
    read = DeltaTable(name).to_pyarrow_table().to_pydict()
    found[name] = dict(sorted(zip(read["user"], read["plan"])))
    print(f"{name:8} {found[name]}")
if found["plain"] == found["by_plan"]:
    raise SystemExit("changed: partitioned tables keep the empty text")
PYTHON

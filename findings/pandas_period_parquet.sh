#!/usr/bin/env bash
# What pyarrow reads of a column of pandas periods depends on what pandas has done before in the same process.
#
# Expected: one file has one type. Either the months come back as such, or every reader is told that they are unknown.
# Happens: pandas writes periods as an extension type whose storage are whole numbers, the months since 1970, and registers
# that type in pyarrow only where it first needs it. Before, pyarrow reads plain int64 (654 for July 2024), although
# pandas is imported; after any pandas.read_parquet, the same call in the same process reads the extension type.
# Versions: pandas 3.1.1, pyarrow 26.0.1
# Output seen:
#   pandas 3.1.1, pyarrow 26.0.1
#   pandas is imported: int64, [654, 655]
#   after pandas.read_parquet of another file: extension<pandas.period<ArrowPeriodType>>, [654, 655]
#
# Why it matters: an amount is what a reader takes 654 for, and the mean of a segment is "month 647". Whether a program
# finds out depends on the order of its imports and reads.
# This engine: such a column is left out by name, whichever type is read; write dates (Series.dt.to_timestamp()) in its place.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile pandas==3.1.1 pyarrow==26.0.1
cd "$folder"
cat > write.py <<'PYTHON'
import pandas as pd

pd.DataFrame({"month": pd.PeriodIndex(["2024-07", "2024-08"], freq="M")}).to_parquet("months.parquet")
pd.DataFrame({"number": [1, 2]}).to_parquet("numbers.parquet")
PYTHON
cat > read.py <<'PYTHON'
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq


def read() -> tuple[str, list[int]]:
    column = pq.read_table("months.parquet").column("month")
    storage = column.cast(pa.int64()) if column.type == pa.int64() else column.combine_chunks().storage
    return str(column.type), storage.to_pylist()


print(f"pandas {pd.__version__}, pyarrow {pa.__version__}")
before = read()
print(f"pandas is imported: {before[0]}, {before[1]}")
pd.read_parquet("numbers.parquet")
after = read()
print(f"after pandas.read_parquet of another file: {after[0]}, {after[1]}")
if before != ("int64", [654, 655]) or "pandas.period" not in after[0]:
    raise SystemExit("changed: the type does not depend on what pandas has done")
PYTHON
venv/bin/python write.py
venv/bin/python read.py

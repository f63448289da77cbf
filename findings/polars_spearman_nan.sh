#!/usr/bin/env bash
# The rank correlation of Polars takes NaN for the largest value, where its other correlation answers NaN.
#
# Expected: columns with NaN have the correlation NaN, as pl.corr(method="pearson") says, or that of the rows without NaN,
# as pandas says for the same data frame.
# Happens: pl.corr(method="spearman") ranks NaN above all numbers. With NaN in a fifth of the rows a rank correlation
# of 0.88 is 0.58, and nothing tells. Rows with null are left out.
# Versions: polars 2.1.0, numpy 2.4.6, pandas 3.1.1, scipy 1.17.1
# Output seen:
#   polars 2.1.0
#   no NaN: pearson 0.892, spearman 0.879, pandas' spearman 0.879
#   NaN in 50 of 1000 rows: pearson nan, spearman 0.802, pandas' spearman 0.877
#   NaN in 200 of 1000 rows: pearson nan, spearman 0.585, pandas' spearman 0.873
#   null in 200 of 1000 rows: spearman 0.873
#
# Why it matters: columns that say nearly the same are found by rank correlations, so that they weigh once; a column from
# NumPy or Parquet with NaN for missing values looks as if it were another one.
# This engine: NaN is a missing value when a table is read, in every format.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile polars==2.1.0 numpy==2.4.6 pandas==3.1.1 scipy==1.17.1 pyarrow==26.0.1
cd "$folder"
cat > correlations.py <<'PYTHON'
import numpy as np
import polars as pl

random = np.random.default_rng(0)
hours = random.normal(size=1000)
minutes = hours + random.normal(size=1000) / 2
print("polars", pl.__version__)
found = {}
for n_missing in (0, 50, 200):
    values = np.where(np.arange(1000) < n_missing, np.nan, hours)
    table = pl.DataFrame({"hours": values, "minutes": minutes})
    pearson, spearman = table.select(
        pearson=pl.corr("hours", "minutes"), spearman=pl.corr("hours", "minutes", method="spearman")
    ).row(0)
    by_pandas = table.to_pandas().corr(method="spearman").iloc[0, 1]
    name = f"NaN in {n_missing} of 1000 rows" if n_missing else "no NaN"
    print(f"{name}: pearson {pearson:.3f}, spearman {spearman:.3f}, pandas' spearman {by_pandas:.3f}")
    found[n_missing] = (pearson, spearman, by_pandas)
with_null = table.with_columns(pl.col("hours").fill_nan(None)).select(pl.corr("hours", "minutes", method="spearman")).item()
print(f"null in 200 of 1000 rows: spearman {with_null:.3f}")
wrong = found[200][2] - found[200][1] > 0.2 and np.isnan(found[200][0])
if not (wrong and abs(found[0][1] - found[0][2]) < 1e-9 and abs(with_null - found[200][2]) < 1e-9):
    raise SystemExit("changed: the correlations are others")
PYTHON
venv/bin/python correlations.py

#!/usr/bin/env bash
# The coordinates that prince's FAMD gives a person depend on who else is in the call, not on the fitted table alone.
#
# Expected: after fit, the coordinates of a person are the same whether the whole table is projected or one row of it, as
# prince's own PCA and MCA do.
# Happens: FAMD (factor analysis of mixed data) scales numbers and weighs categories of the rows that it is asked about. The
# first person of the fitted table lands elsewhere alone, among three people, or among fifty.
# Versions: prince 0.23.0, pandas 3.1.1, numpy 2.4.6
# Output seen:
#   prince 0.23.0
#   FAMD, first person, of all 200 rows: -0.565 -1.486
#   FAMD, first person, of 50 rows: -0.585 -1.472
#   FAMD, first person, of 3 rows: -0.447 -1.030
#   FAMD, first person, of 1 row: -0.278 -0.257
#   PCA: the same coordinates of 200 rows and of 1: True
#
# Why it matters: segments of mixed profiles are found with FAMD and K-Means; new members scored in a nightly batch are put
# into clusters by the mix of that night.
# This engine: an encoder keeps what the fit has found, and a row is encoded and projected by itself.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile prince==0.23.0 pandas==3.1.1 numpy==2.4.6
cd "$folder"
cat > coordinates.py <<'PYTHON'
from importlib.metadata import version

import numpy as np
import pandas as pd
import prince

random = np.random.default_rng(0)
people = pd.DataFrame(
    {
        "age": random.normal(40, 10, 200),
        "spend": random.exponential(50, 200),
        "plan": random.choice(list("abc"), 200),
        "city": random.choice(list("xy"), 200),
    }
)
print("prince", version("prince"))
famd = prince.FAMD(n_components=2, random_state=0).fit(people)
first = {}
for n_rows in (200, 50, 3, 1):
    first[n_rows] = famd.row_coordinates(people.head(n_rows)).to_numpy()[0]
    rows = "all 200 rows" if n_rows == 200 else f"{n_rows} row{'s' * (n_rows > 1)}"
    print(f"FAMD, first person, of {rows}: {first[n_rows][0]:.3f} {first[n_rows][1]:.3f}")
numbers = people[["age", "spend"]]
pca = prince.PCA(n_components=2, random_state=0).fit(numbers)
alike = bool(np.allclose(pca.row_coordinates(numbers).to_numpy()[0], pca.row_coordinates(numbers.head(1)).to_numpy()[0]))
print("PCA: the same coordinates of 200 rows and of 1:", alike)
if not (alike and np.abs(first[200] - first[1]).max() > 1 and np.abs(first[200] - first[3]).max() > 0.3):
    raise SystemExit("changed: the coordinates no longer depend on the other rows")
PYTHON
venv/bin/python coordinates.py

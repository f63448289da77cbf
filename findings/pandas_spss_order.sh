#!/usr/bin/env bash
# pandas sorts the answers of an SPSS scale by the alphabet, and says that they have no order.
#
# Expected: bad = 1, so so = 2, good = 3 becomes a category with this order.
# Happens: read_spss gives an unordered category with the names in alphabetical order. Its codes are bad 0, good 1, so
# so 2: "good" lies between the others. convert_categoricals=False keeps 1, 2, 3.
# Versions: pandas 3.1.1, pyreadstat 1.3.7
# Output seen:
#   pandas 3.1.1 pyreadstat 1.3.7
#   answers    ['bad', 'so so', 'good']
#   categories ['bad', 'good', 'so so'] ordered: False
#   codes      [0, 2, 1] numbers: [1.0, 2.0, 3.0]
#
# Why it matters: codes of categories are a common way to get numbers for clustering. The scale is permuted, distances
# between answers are wrong, and everything runs.
# This engine: it reads SPSS files without pandas, and never uses the codes of a category as numbers: categories are
# encoded one column a value.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile pandas==3.1.1 pyreadstat==1.3.7
cd "$folder"
venv/bin/python - <<'PYTHON'
import pandas as pd
import pyreadstat

print("pandas", pd.__version__, "pyreadstat", pyreadstat.__version__)
labels = {1: "bad", 2: "so so", 3: "good"}
pyreadstat.write_sav(pd.DataFrame({"food": [1.0, 2.0, 3.0]}), "survey.sav", variable_value_labels={"food": labels})
food = pd.read_spss("survey.sav")["food"]
print("answers   ", food.tolist())
print("categories", food.cat.categories.tolist(), "ordered:", food.cat.ordered)
numbers = pd.read_spss("survey.sav", convert_categoricals=False)["food"]
print("codes     ", food.cat.codes.tolist(), "numbers:", numbers.tolist())
if food.cat.codes.tolist() == [0, 1, 2]:
    raise SystemExit("changed: the codes follow the scale")
PYTHON

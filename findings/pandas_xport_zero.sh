#!/usr/bin/env bash
# pandas reads the number 0 of a SAS transport file as 5.4e-79.
#
# Expected: zero is zero in both readers.
# Happens: pandas.read_sas converts the IBM floating-point format without the special case of zero and gives
# 5.397605346934028e-79. pyreadstat reads 0.0 from the same file.
# Versions: pandas 3.1.1, pyreadstat 1.3.7
# Output seen:
#   pandas 3.1.1 pyreadstat 1.3.7
#   pandas     [5.397605346934028e-79, 1.0, 2.0, 5.397605346934028e-79] rows with 0: 0
#   pyreadstat [0.0, 1.0, 2.0, 0.0] rows with 0: 2
#
# Why it matters: transport files (.xpt) are how national health surveys are published, and 0 is "none" or "no". The
# column has no zero left: x == 0 selects nobody, a share of zeros is 0, and a logarithm is -180 instead of minus
# infinity.
# This engine: it reads transport files with pyreadstat, and a test holds it to the zeros.
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
answers = pd.DataFrame({"DRINKS": [0.0, 1.0, 2.0, 0.0]})
pyreadstat.write_xport(answers, "survey.xpt", file_format_version=5)
by_pandas = pd.read_sas("survey.xpt")["DRINKS"]
by_pyreadstat = pyreadstat.read_xport("survey.xpt")[0]["DRINKS"]
print("pandas    ", by_pandas.tolist(), "rows with 0:", int((by_pandas == 0).sum()))
print("pyreadstat", by_pyreadstat.tolist(), "rows with 0:", int((by_pyreadstat == 0).sum()))
if (by_pandas == 0).any():
    raise SystemExit("changed: pandas reads zero")
PYTHON

"""What a command imports: libraries that it makes no use of cost processor time."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from engine.cli.app import _keep_pandas_out
_keep_pandas_out()
import pyarrow as pa
import engine.pipeline.fit
pa.array([1.5])
print(*sorted({"pandas", "scipy.special", "sklearn", "plotly", "jinja2"} & set(sys.modules)))
import pandas
assert pa.table({"a": [1, 2]}).to_pandas()["a"].sum() == 3
assert pa.array(pandas.Series([1.0, None])).null_count == 1
"""


def test_a_fit_starts_without_libraries_that_it_may_not_need_and_leaves_pandas_usable() -> None:
    pytest.importorskip("pandas")
    process = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert process.stdout.split() == []

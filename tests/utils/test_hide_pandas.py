"""What commands do without, each in a process of its own: imports last as long as the process does."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from engine.datasets.demo_table import DemoPaths
from engine.utils.hide_pandas import without_pandas

FIT = """
import contextlib, json, sys
from engine.cli import main
sys.argv = ["rooms", *json.loads(sys.argv[1])]
with contextlib.suppress(SystemExit):
    main()
print(json.dumps("pandas" in sys.modules))
"""
LATER = """
import json, sys
from engine.utils.hide_pandas import arrow_without_pandas
arrow_without_pandas()
import pyarrow as pa
table = pa.table({"x": [1, None, 3]})
before = "pandas" in sys.modules
frame = table.to_pandas()
back = pa.Table.from_pandas(frame)
print(json.dumps([before, len(frame), back["x"].null_count, not any("_NoPandas" in str(f) for f in sys.meta_path)]))
"""


def ran(script: str, *arguments: str) -> Any:
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_a_fit_of_files_imports_no_pandas(demo: DemoPaths, tmp_path: Path) -> None:
    command = ["fit", str(demo.members), "--id", "user_id", "-k", "3", "--skip", "map,report"]
    assert ran(FIT, json.dumps([*command, "--out", str(tmp_path / "run")])) is False
    assert (tmp_path / "run" / "manifest.json").exists()


def test_pandas_is_hidden_from_one_thread_only() -> None:
    with without_pandas(), ThreadPoolExecutor(1) as other:
        (finder,) = [found for found in sys.meta_path if type(found).__name__ == "_NoPandas"]
        with pytest.raises(ImportError, match="hidden"):
            finder.find_spec("pandas", None)
        assert finder.find_spec("numpy", None) is None
        assert other.submit(finder.find_spec, "pandas", None).result() is None
    assert finder not in sys.meta_path


def test_who_wants_pandas_later_has_it() -> None:
    assert ran(LATER) == [False, 3, 1, True]

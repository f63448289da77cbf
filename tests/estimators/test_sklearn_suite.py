"""scikit-learn's own tests with our estimators in the place of theirs, and the committed list of what they fail.

    known_failures.yaml: for each of scikit-learn's test modules, tests left out and tests that fail, with reasons

Each module runs in a process of its own, with the plugin drop_in.py.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sklearn
import yaml

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
KNOWN: dict[str, dict[str, list[dict[str, Any]]]] = yaml.safe_load((FOLDER / "known_failures.yaml").read_text())
LEAST_SHARE = 0.97

pytestmark = pytest.mark.skipif(
    not sklearn.__version__.startswith("1.9."), reason=f"the list is of scikit-learn 1.9, not {sklearn.__version__}"
)


def outcomes_of(module: str, folder: Path) -> dict[str, str]:
    """Run a test module of scikit-learn in an empty folder, and return the outcome of each of its tests."""
    file = folder / "outcomes.json"
    command = [
        sys.executable, "-P", "-m", "pytest", "-q", "-p", "drop_in", "-p", "no:cacheprovider", "-p", "no:xdist",
        "-c", os.devnull, "--rootdir", folder, "--tb", "short", "--outcomes", file, "--pyargs", module,
    ]  # fmt: skip
    path = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(FOLDER)])
    # The tables are tiny: threads only wait for each other.
    single = dict.fromkeys(("ROOMS_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": path, **single}, capture_output=True, text=True
    )
    assert done.returncode in (0, 1), done.stdout[-3000:] + done.stderr[-3000:]
    print(done.stdout[-20_000:])
    outcomes: dict[str, str] = json.loads(file.read_text())
    return outcomes


def is_listed(test: str, entries: list[dict[str, Any]]) -> bool:
    return any(re.fullmatch(pattern, test) for entry in entries for pattern in entry["tests"])


@pytest.mark.parametrize("module", KNOWN)
def test_our_estimator_passes_the_tests_of_scikit_learn_but_for_a_list(module: str, tmp_path: Path) -> None:
    left_out, fails = KNOWN[module].get("left_out", []), KNOWN[module].get("fails", [])
    outcomes = outcomes_of(module, tmp_path)
    counted = {
        test: outcome for test, outcome in outcomes.items() if outcome != "skipped" and not is_listed(test, left_out)
    }
    passed = {test for test, outcome in counted.items() if outcome == "passed"}
    unexpected = [test for test in counted if test not in passed and not is_listed(test, fails)]
    assert not unexpected, "they fail and are not listed:\n" + "\n".join(unexpected)
    stale = [test for test in passed if is_listed(test, fails)]
    assert not stale, "they pass but are listed as failing:\n" + "\n".join(stale)
    assert len(passed) >= LEAST_SHARE * len(counted), f"{len(passed)} of {len(counted)}"
    figure = f"{len(passed)} of {len(counted)}"
    page = (ROOT / "docs" / "estimators.md").read_text()
    assert f"`{module}`" in page
    assert figure in page.split(f"`{module}`")[1].splitlines()[0], f"docs/estimators.md: {module} passes {figure}"


@pytest.mark.parametrize("module", KNOWN)
def test_every_entry_has_a_reason_and_matches_by_itself(module: str) -> None:
    for entry in [entry for entries in KNOWN[module].values() for entry in entries]:
        assert set(entry) == {"tests", "reason"}
        assert entry["reason"].endswith(".")
        assert all(re.compile(pattern) for pattern in entry["tests"])

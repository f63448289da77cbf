"""Models with right checksums whose numbers cannot be used are refused by name, and never assign NaN."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import engine
from engine.config import FitConfig
from engine.errors import ModelNotReadableError
from engine.model.files import read_model, write_model

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's of the overflow
ROWS = pa.table({"age": (20.0 + np.arange(200) % 7 * 5).tolist(), "plan": ["free", "basic", "plus", "pro"] * 50})


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unusable") / "run"
    engine.fit(ROWS, out=out, n_clusters=2, config=FitConfig.merge({}, skip=["explain", "report"]))
    return out


@pytest.fixture
def run(fitted: Path, tmp_path: Path) -> Path:
    shutil.copytree(fitted, tmp_path / "run")
    return tmp_path / "run"


def change_age(run: Path, name: str, value: float) -> None:
    """Write another number into the plan of the age, with a right checksum; json.loads reads NaN."""
    path = run / "model" / "model.json"
    document = json.loads(path.read_text())
    facts = {key: fact for key, fact in document.items() if key not in ("format", "arrays_sha256", "facts_sha256")}
    facts["plan"]["columns"][0][name] = value
    document |= {"facts_sha256": hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest(), **facts}
    path.write_text(json.dumps(document))


@pytest.mark.parametrize("name", ["fill", "low", "high", "centre", "scale", "weight", "indicator_scale"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_plan_with_numbers_that_are_none_is_refused(run: Path, name: str, value: float) -> None:
    change_age(run, name, value)
    with pytest.raises(ModelNotReadableError, match="holds no model that can be used"):
        engine.load(run)


@pytest.mark.parametrize("place", [False, True])
@pytest.mark.parametrize(("name", "value"), [("scale", 1e300), ("centre", 1e200), ("weight", 1e300), ("weight", -1.0)])
def test_a_plan_whose_numbers_overflow_assigns_nothing(run: Path, name: str, value: float, place: bool) -> None:
    change_age(run, name, value)
    with pytest.raises(ModelNotReadableError, match="no finite distance"):
        engine.load(run).assign(ROWS, place=place)


def test_centers_that_overflow_assign_nothing(run: Path) -> None:
    facts, arrays = read_model(run / "model")
    write_model(run / "model", facts, arrays | {"centres": np.full_like(arrays["centres"], 3e38)})
    with pytest.raises(ModelNotReadableError, match="no finite distance"):
        engine.load(run).assign(ROWS)

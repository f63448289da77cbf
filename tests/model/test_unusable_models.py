"""Models with right checksums whose numbers cannot be used are refused by name, and never assign NaN."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import engine
from engine.config import FitConfig
from engine.errors import MissingColumnError, ModelNotReadableError, NotMappedError
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


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("centres", lambda a: a[:, :1]),
        ("centres", lambda a: a[:0]),
        ("centres", lambda a: a.astype(np.float64)),
        ("centres", lambda a: np.full_like(a, np.nan)),
        ("fences", lambda a: np.full_like(a, np.nan)),
        ("fences", lambda a: a[:1]),
        ("odds", lambda a: a[:, 1:]),
        ("pca.components_", lambda a: a[:, 1:]),
        ("pca.components_", lambda a: np.full_like(a, np.inf)),
        ("pca.components_", lambda a: a[0]),
        ("pca.mean_", lambda a: np.full_like(a, np.nan)),
        ("pca.n_samples_", lambda a: a[:0]),
        ("fences", None),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(run: Path, name: str, change: Any) -> None:
    facts, arrays = read_model(run / "model")
    changed = {key: array for key, array in arrays.items() if key != name}
    write_model(run / "model", facts, changed if change is None else changed | {name: change(arrays[name])})
    with pytest.raises(ModelNotReadableError, match="holds no model that can be used"):
        engine.load(run)


@pytest.mark.parametrize("facts", [{"id": 5}, {"plan": {}}, {"plan": {"columns": []}}, {"plan": None}])
def test_facts_that_say_what_no_model_says_are_refused(run: Path, facts: dict[str, Any]) -> None:
    old, arrays = read_model(run / "model")
    write_model(run / "model", old | facts, arrays)
    with pytest.raises(ModelNotReadableError, match="holds no model that can be used"):
        engine.load(run)


def test_files_that_are_damaged_or_foreign_are_refused_by_name(run: Path) -> None:
    facts, arrays = run / "model" / "model.json", run / "model" / "arrays.safetensors"
    text, content = facts.read_text(), arrays.read_bytes()

    def refused(match: str) -> None:
        with pytest.raises(ModelNotReadableError, match=match):
            engine.load(run)
        facts.write_text(text)
        arrays.write_bytes(content)

    facts.write_text(text[:-9])
    refused("model.json is not JSON")
    facts.write_text("[1]")
    refused("is of model format None")
    facts.write_text(text.replace('"format": 2', '"format": 99'))
    refused("is of model format 99")
    facts.write_text(text.replace('"plan"', '"plan "'))
    refused("model.json is not what was written")
    arrays.write_bytes(content[:-1])
    refused("arrays.safetensors is not what was written")
    damaged = b"\xff" * 8 + content[8:]
    arrays.write_bytes(damaged)
    of_content, of_damaged = (hashlib.sha256(bytes_).hexdigest() for bytes_ in (content, damaged))
    facts.write_text(text.replace(of_content, of_damaged))
    refused("arrays.safetensors cannot be read")
    facts.unlink()
    refused("holds no model")
    engine.load(run)


def test_a_map_or_id_that_the_model_lacks_is_refused(run: Path) -> None:
    shutil.rmtree(run / "map")
    with pytest.raises(NotMappedError, match="no map to place rows on"):
        engine.load(run).assign(ROWS, place=True)
    with pytest.raises(MissingColumnError, match="age"):
        engine.load(run).assign(ROWS.select(["plan"]))


@pytest.mark.parametrize("name", ["manifest.json", "rules.json", "personas.json", "features.json"])
@pytest.mark.parametrize("content", ["", '{"rows": 3', "SELECT 1;"])
def test_a_damaged_file_of_a_run_is_named(run: Path, name: str, content: str) -> None:
    (run / name).write_text(content)
    read = engine.Run(run)
    with pytest.raises(ModelNotReadableError, match=rf"{name} of .*run cannot be read"):
        getattr(read, Path(name).stem)

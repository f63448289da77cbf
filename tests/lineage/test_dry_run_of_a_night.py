"""A dry run of a fit that continues a run: its columns and features are kept, and its people are in the memory plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import engine
from engine.config import FitConfig
from engine.errors import IdColumnError, MissingColumnError, RetypedColumnError
from engine.lineage.people import NUMBER_ID_BYTES, ROWS_PER_PART, TEXT_ID_BYTES
from engine.pipeline.dry_run import estimate_fit
from engine.pipeline.memory_plan import plan_memory


def settings(previous: engine.Run | None = None, **changes: Any) -> FitConfig:
    values = {"skip": ("explain", "map", "report"), "id": "who", "kmeans": {"n_clusters": 2}} | changes
    return FitConfig.merge({}, **values | ({} if previous is None else {"previous": str(previous.path)}))


def write_table(path: Path, n: int, **columns: Any) -> Path:
    rng, side = np.random.default_rng(n), np.arange(n) % 2
    table = {"who": np.arange(n), "x": rng.normal(9 * side), "plan": np.where(side == 0, "free", "paid")} | columns
    pq.write_table(pa.table(table), path)
    return path


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> engine.Run:
    folder = tmp_path_factory.mktemp("first")
    return engine.fit(write_table(folder / "1.parquet", 600), out=folder / "run", config=settings())


def test_columns_and_features_are_those_of_the_run(first: engine.Run, tmp_path: Path) -> None:
    plans = np.where(np.arange(500) % 3 == 0, "trial", "free")
    table = write_table(tmp_path / "2.parquet", 500, age=np.arange(500) % 60, plan=plans)
    kept = estimate_fit(table, settings(first))
    assert kept.features.encoder.plan == first.model.encoder.plan
    assert kept.facts()["components"] == first.manifest["components"]
    renewed = estimate_fit(table, settings(first, lineage={"refit_features": True}))
    assert "age" in renewed.features.encoder.columns
    assert "plan: trial" in renewed.facts()["features"]
    assert [path.name for path in tmp_path.iterdir()] == ["2.parquet"]


def test_what_a_fit_would_refuse_is_refused(first: engine.Run, tmp_path: Path) -> None:
    table = pq.read_table(write_table(tmp_path / "2.parquet", 300))
    lacking = table.drop_columns("plan")
    retyped = table.set_column(1, "x", pa.array(["a lot"] * 300))
    for other, error in ((lacking, MissingColumnError), (retyped, RetypedColumnError)):
        for attempt in (estimate_fit, lambda t, s: engine.fit(t, out=tmp_path / "run", config=s)):
            with pytest.raises(error, match="--refit-features"):
                attempt(other, settings(first))
    assert estimate_fit(lacking, settings(first, lineage={"refit_features": True})).n_rows == 300
    with pytest.raises(IdColumnError):
        estimate_fit(table, settings(first, id=None))


def test_people_of_both_nights_are_in_the_memory_plan() -> None:
    n = 1_000_000
    number, text = (pa.schema([("who", kind), ("x", pa.float32())]) for kind in (pa.int64(), pa.string()))
    config = settings()

    def memory(schema: pa.Schema, earlier: int | None, config: FitConfig = config, **changes: Any) -> int:
        return plan_memory(n, schema, config, earlier_people=earlier, n_components=2, **changes).memory_bytes

    alone = memory(number, None)
    assert memory(number, 100) > alone
    most = memory(number, 100 * ROWS_PER_PART)
    assert most - memory(number, 2 * n) == (ROWS_PER_PART - 2 * n) * NUMBER_ID_BYTES
    assert most == memory(number, 200 * ROWS_PER_PART)  # part by part
    assert memory(text, 100 * ROWS_PER_PART) - most == ROWS_PER_PART * (TEXT_ID_BYTES - NUMBER_ID_BYTES)
    streamed = memory(number, 100 * ROWS_PER_PART, streamed=True)
    assert ROWS_PER_PART * NUMBER_ID_BYTES < streamed < most
    rows = settings(id=None)
    assert memory(number, 100 * ROWS_PER_PART, rows) - memory(number, None, rows) in (0, 4 * n)

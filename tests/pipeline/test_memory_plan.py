"""The memory plan: where rows are kept, from the table's schema and row count, and what is refused before any work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine.backends.cpu import CpuBackend
from engine.config import FitConfig
from engine.datasets.draw_members import SCHEMA
from engine.errors import OutOfResourcesError
from engine.execution.cluster import WorkerResources
from engine.kmeans.distributed import state_bytes_per_row
from engine.kmeans.lloyd import Samples
from engine.pipeline import memory_plan
from engine.pipeline.memory_plan import plan_memory

ALL = FitConfig.merge({}, id="user_id", memory="1GiB")
PLENTY = 10**12  # bytes of a disk


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_plan, "available_memory", lambda: 8 << 30)
    monkeypatch.setattr(memory_plan, "thread_count", lambda: 2)


def test_a_table_that_fits_is_kept_in_memory_and_a_larger_one_streamed() -> None:
    assert plan_memory(100_000, SCHEMA, ALL).kind == "in memory"
    streamed = plan_memory(50_000_000, SCHEMA, ALL)
    assert streamed.kind == "streamed"
    assert "the budget is 1.00 GiB" in streamed.why


def test_rows_between_passes_fill_the_budget_and_no_more() -> None:
    streamed = plan_memory(50_000_000, SCHEMA, ALL)
    assert streamed.keep_bytes > 400 << 20
    assert streamed.memory_bytes == 1 << 30


def test_the_budget_on_a_cluster_is_that_of_each_worker() -> None:
    one, four = (
        plan_memory(10**8, SCHEMA, ALL, n_components=27, resources=WorkerResources(n, 2, 8 << 30)) for n in (1, 4)
    )
    assert one.kind == four.kind == "distributed"
    assert one.memory_bytes == four.memory_bytes == 1 << 30
    many = plan_memory(10**8, SCHEMA, ALL, n_components=27, resources=WorkerResources(1000, 2, 8 << 30))
    assert many.memory_bytes < 1 << 30
    no_budget = FitConfig.merge({}, id="user_id")
    free = plan_memory(10**8, SCHEMA, no_budget, n_components=27, resources=WorkerResources(4, 2, 3 << 30))
    assert free.budget_bytes == 3 << 29


def test_a_worker_that_has_too_little_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutOfResourcesError, match=r"of memory in every worker, and the free memory is 0\.10 GiB"):
        plan_memory(1000, SCHEMA, ALL, resources=WorkerResources(4, 2, 100 << 20)).check(tmp_path, PLENTY)


def test_streamed_memory_does_not_depend_on_rows_and_disk_does() -> None:
    few, many = (plan_memory(n, SCHEMA, ALL, n_components=27) for n in (20_000_000, 200_000_000))
    assert few.memory_bytes == many.memory_bytes <= 1 << 30
    assert many.disk_bytes == pytest.approx(10 * few.disk_bytes)


def test_a_streamed_plan_stays_streamed_and_wide_scores_can_leave_memory() -> None:
    assert plan_memory(100_000, SCHEMA, ALL, streamed=True).kind == "streamed"
    assert plan_memory(1_000_000, SCHEMA, ALL, n_components=20).kind == "in memory"
    assert plan_memory(1_000_000, SCHEMA, ALL, n_components=500).kind == "streamed"


def test_stages_that_are_skipped_take_nothing() -> None:
    lean = FitConfig.merge({}, id="user_id", memory="1GiB", skip=["map", "explain"])
    assert plan_memory(1000, SCHEMA, lean).memory_bytes < plan_memory(1000, SCHEMA, ALL).memory_bytes
    few, many = (plan_memory(10**8, SCHEMA, settings, n_components=9).disk_bytes for settings in (lean, ALL))
    assert few <= many


def test_a_table_of_few_rows_takes_little_memory_however_many_columns_it_has(tmp_path: Path) -> None:
    wide = pa.schema([(f"c{number}", pa.float64()) for number in range(6830)])
    plan = plan_memory(64, wide, FitConfig.merge({}, memory="1GiB"))
    plan.check(tmp_path, PLENTY)
    assert plan.kind == "in memory"
    assert plan.memory_bytes < 400 << 20  # of which the engine and its explanation are 322
    known = plan_memory(64, wide, FitConfig.merge({}, memory="1GiB"), n_components=63, n_features=6830)
    assert abs(known.memory_bytes - plan.memory_bytes) < 4 << 20


def test_the_covariance_of_many_columns_is_planned_before_any_work(tmp_path: Path) -> None:
    wide = pa.schema([(f"c{number}", pa.float64()) for number in range(6830)])
    with pytest.raises(OutOfResourcesError, match="this fit needs about"):
        plan_memory(10_000, wide, FitConfig.merge({}, memory="1GiB")).check(tmp_path, PLENTY)


def test_too_little_memory_is_refused(tmp_path: Path) -> None:
    small = FitConfig.merge({}, memory="100MiB")
    with pytest.raises(OutOfResourcesError, match=r"and --memory is 0.10 GiB.\nHint: raise --memory"):
        plan_memory(1000, SCHEMA, small).check(tmp_path, PLENTY)


def test_more_memory_than_is_free_is_refused_if_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generous = FitConfig.merge({}, memory="100GiB")
    plan_memory(1000, SCHEMA, generous).check(tmp_path, PLENTY)  # needs little of it
    with pytest.raises(OutOfResourcesError, match=r"the free memory is 8.00 GiB"):
        plan_memory(10**8, SCHEMA, generous).check(tmp_path, PLENTY)


def test_a_disk_that_is_too_small_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutOfResourcesError, match="for temporary files"):
        plan_memory(10**12, SCHEMA, ALL).check(tmp_path / "not" / "there" / "yet", PLENTY)


@pytest.mark.parametrize("n_features", [3, 16, 27, 64])
def test_the_planned_bytes_of_k_means_are_those_of_its_arrays(n_features: int) -> None:
    X = np.ones((100, n_features), np.float32)
    state = Samples.from_array(X, None, CpuBackend()).new_state(2)
    arrays = [*state.samples.prepared.quantized, state.labels, state.gap_bound]  # type: ignore[attr-defined]
    assert sum(array.nbytes for array in arrays) == 100 * state_bytes_per_row(n_features)

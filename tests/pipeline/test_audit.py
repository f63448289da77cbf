"""The audit that ends every fit: each thing it checks is broken once, and it says which."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import engine
from engine.backends.cpu import CpuBackend
from engine.config import FitConfig
from engine.datasets.demo_table import DemoPaths
from engine.errors import AuditError
from engine.model.files import read_model, write_model
from engine.pipeline.audit import Expected, audit_run
from engine.tables import open_table
from engine.tables.unique_ids import check_ids, digest_ids

Change = Callable[[pa.Table], pa.Table]


@pytest.fixture(scope="module")
def expected(demo: DemoPaths, run: engine.Run) -> Expected:
    table = open_table(demo.members, id="user_id")
    id_type = table.schema.field("user_id").type
    sizes = run.clusters["size"].to_numpy()
    ids = check_ids(table, "user_id", run.manifest["rows"])
    return Expected(
        run.manifest["rows"], "user_id", id_type, ids, sizes, run.model.cluster_numbers, run.manifest["inertia"]
    )


@pytest.fixture
def folder(run: engine.Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run.path, tmp_path / "run"))


def change_file(path: Path, change: Change) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def replace_values(column: str, change: Callable[[np.ndarray], Any]) -> Change:
    """Return what changes the values of a column in place."""

    def apply(table: pa.Table) -> pa.Table:
        values = table[column].to_numpy(zero_copy_only=False).copy()
        change(values)
        field = table.schema.field(column)
        return table.set_column(table.column_names.index(column), field, pa.array(values, field.type))

    return apply


def set_first(value: Any) -> Callable[[np.ndarray], None]:
    def change(values: np.ndarray) -> None:
        values[0] = value

    return change


def swap_first_two(values: np.ndarray) -> None:
    values[[0, 1]] = values[[1, 0]]


def swap_two_that_differ(values: np.ndarray) -> None:
    other = int(np.flatnonzero(values != values[0])[0])
    values[0] = values[other]


def test_a_whole_run_passes_and_its_manifest_says_so(folder: Path, expected: Expected, run: engine.Run) -> None:
    facts = audit_run(folder, expected)
    assert facts == run.manifest["audit"]
    assert facts["rows"] == 20_000
    assert facts["clusters"] == 12
    assert facts["inertia_error"] < 2.0**-22
    assert run.manifest["stages"][-1]["stage"] == "audit"


ASSIGNMENTS: dict[str, tuple[Change, str]] = {
    "a row is lost": (lambda table: table.slice(1), "the assignments hold 19,999 of 20,000 rows"),
    "a row comes twice": (lambda t: pa.concat_tables([t, t.slice(0, 1)]), "hold 20,001 of 20,000 rows"),
    "ids change places": (replace_values("user_id", swap_first_two), "the ids of the assignments are not"),
    "an id is another": (replace_values("user_id", set_first(1)), "the ids of the assignments are not"),
    "a row has another cluster": (
        replace_values("cluster", swap_two_that_differ),
        "2 of 12 clusters have another size in the assignments",
    ),
    "a cluster that is none": (replace_values("cluster", set_first(12)), "'cluster' is no cluster in 1 rows"),
    "a cluster below 0": (replace_values("runner_up", set_first(-1)), "'runner_up' is no cluster in 1 rows"),
    "a distance is another": (replace_values("distance", set_first(50.0)), "add up to .*, and the inertia is"),
    "a distance is NaN": (replace_values("distance", set_first(np.nan)), "'distance' is not a number in 1 rows"),
    "a margin is infinite": (replace_values("margin", set_first(np.inf)), "'margin' is not a number in 1 rows"),
    "ids are gone": (
        lambda t: t.set_column(0, "user_id", pc.if_else(pc.equal(t["cluster"], 0), None, t["user_id"])),
        "a file cannot be read back: Column 'user_id' is the id, and it is missing",
    ),
}


@pytest.mark.parametrize("fault", ASSIGNMENTS)
def test_a_fault_in_the_assignments_is_caught(folder: Path, expected: Expected, fault: str) -> None:
    change, message = ASSIGNMENTS[fault]
    change_file(folder / "assignments" / "part-00000.parquet", change)
    with pytest.raises(AuditError, match=message):
        audit_run(folder, expected)


TABLES: dict[str, tuple[str, Change, str]] = {
    "sizes": ("clusters", replace_values("size", set_first(1)), "sizes in clusters.parquet"),
    "inertia": ("clusters", replace_values("inertia", set_first(1.0)), "inertia in clusters.parquet adds up to"),
    "a centre": (
        "clusters",
        replace_values("age", set_first(np.nan)),
        "'age' of clusters.parquet is not a number",
    ),
    "the map": ("map", replace_values("map_x", set_first(np.inf)), "'map_x' of map.parquet is not a number in 1 rows"),
}


@pytest.mark.parametrize("fault", TABLES)
def test_a_fault_in_another_table_is_caught(folder: Path, expected: Expected, fault: str) -> None:
    name, change, message = TABLES[fault]
    change_file(folder / f"{name}.parquet", change)
    with pytest.raises(AuditError, match=message):
        audit_run(folder, expected)


@pytest.mark.parametrize(("name", "array"), [("model", "centres"), ("model", "fences"), ("map", "places")])
def test_an_array_that_holds_nan_is_caught(folder: Path, expected: Expected, name: str, array: str) -> None:
    facts, arrays = read_model(folder / name)
    arrays[array] = arrays[array].copy()
    arrays[array].flat[0] = np.nan
    write_model(folder / name, facts, arrays)
    with pytest.raises(AuditError, match=f"array '{array}' in {name}/ is not a number in 1 places"):
        audit_run(folder, expected)


def test_a_fence_may_be_infinite(folder: Path, expected: Expected) -> None:
    facts, arrays = read_model(folder / "model")
    arrays["fences"] = np.full_like(arrays["fences"], np.inf)
    write_model(folder / "model", facts, arrays)
    audit_run(folder, expected)


@pytest.mark.parametrize("name", ["manifest.json", "rules.json", "personas.json"])
def test_a_document_that_is_no_json_is_caught(folder: Path, expected: Expected, name: str) -> None:
    path = folder / name
    path.write_text(json.dumps({"old": json.loads(path.read_text()), "fidelity": float("nan")}))
    with pytest.raises(AuditError, match=re.escape(f"{name} is no JSON: it holds NaN")):
        audit_run(folder, expected)


def test_a_file_that_is_damaged_or_gone_is_caught(folder: Path, expected: Expected) -> None:
    part = folder / "assignments" / "part-00000.parquet"
    whole = part.read_bytes()
    part.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AuditError, match="a file cannot be read back"):
        audit_run(folder, expected)
    part.write_bytes(whole)
    (folder / "clusters.parquet").unlink()
    with pytest.raises(AuditError, match="a file cannot be read back"):
        audit_run(folder, expected)


def test_all_that_differs_is_named(folder: Path, expected: Expected) -> None:
    with pytest.raises(AuditError) as caught:
        audit_run(folder, replace(expected, n_rows=1, ids=0, inertia=0.0))
    assert len(caught.value.differences) == 4  # rows, ids, and inertia in both tables
    assert caught.value.exit_code == 70


def test_digests_add_up_over_blocks_and_depend_on_the_order() -> None:
    ids = pa.array([f"user {n}" for n in range(100)])
    whole = digest_ids(ids, 0)
    assert (digest_ids(ids.slice(0, 33), 0) + digest_ids(ids.slice(33), 33)) % 2**64 == whole
    assert digest_ids(ids.take(pa.array([1, 0, *range(2, 100)])), 0) != whole
    assert digest_ids(ids, 1) != whole


def fit_with_wrong_labels(monkeypatch: pytest.MonkeyPatch, table: pa.Table, out: Path, lean: FitConfig) -> None:
    nearest_two = CpuBackend.nearest_two

    def wrong(self: CpuBackend, X: Any, centers: Any) -> Any:
        nearest = nearest_two(self, X, centers)
        nearest.labels[:1] = nearest.second_labels[:1]
        return nearest

    with monkeypatch.context() as patch:
        patch.setattr(CpuBackend, "nearest_two", wrong)
        engine.fit(table, out=out, n_clusters=3, config=lean, overwrite=True)


def test_a_failed_audit_publishes_nothing_and_keeps_the_old_run(
    lean: FitConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    table = pa.table({"age": random.normal(40, 10, 500), "hours": random.normal(5, 2, 500)})
    with pytest.raises(AuditError, match="clusters have another size in the assignments"):
        fit_with_wrong_labels(monkeypatch, table, tmp_path / "run", lean)
    assert list(tmp_path.iterdir()) == []
    engine.fit(table, out=tmp_path / "run", n_clusters=3, config=lean)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(AuditError):
        fit_with_wrong_labels(monkeypatch, table, tmp_path / "run", lean)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "ids",
    [
        pa.array([n * 86_400 for n in range(40)], pa.timestamp("s")),
        pa.array([n * 100 for n in range(40)], pa.time32("s")),
        pa.array([n / 8 for n in range(40)]),
        pa.array([n.to_bytes(16, "big") for n in range(40)], pa.uuid()),
        pa.array([2**63 + n for n in range(40)], pa.uint64()),
    ],
    ids=lambda ids: str(ids.type),
)
def test_ids_that_parquet_writes_in_another_form_are_the_same(ids: pa.Array, lean: FitConfig, tmp_path: Path) -> None:
    table = pa.table({"id": ids, "age": np.arange(40.0) ** 2})
    run = engine.fit(table, out=tmp_path / "run", id="id", n_clusters=2, config=lean)
    assert run.manifest["audit"]["rows"] == 40

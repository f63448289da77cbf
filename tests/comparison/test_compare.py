"""Comparing two runs: people are matched by id however it is stored, movers are written, errors are named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import engine
from engine.cli import app
from engine.config import FitConfig
from engine.datasets.demo_table import DemoPaths
from engine.errors import IdColumnError, ModelNotReadableError, NothingInCommonError, OutputExistsError, UsageError
from engine.lineage import people


def write_run(folder: Path, ids: pa.Array, labels: Sequence[int], *, id: str = "who", k: int | None = None) -> Path:
    """Write the files of a run that a comparison reads."""
    (folder / "assignments").mkdir(parents=True)
    cluster = np.array(labels, np.int32)
    sizes = np.bincount(cluster, minlength=k or 0)
    half = len(cluster) // 2
    table = pa.table({id: ids, "cluster": cluster, "margin": np.ones(len(cluster), np.float32)})
    table = table.append_column("outlier", pa.array(np.zeros(len(cluster), bool)))
    for number, part in enumerate((table.slice(0, half), table.slice(half))):
        pq.write_table(part, folder / "assignments" / f"part-{number:05d}.parquet")
    shares = {"cluster": np.arange(len(sizes), dtype=np.int32), "size": sizes, "share": sizes / len(cluster)}
    pq.write_table(pa.table(shares), folder / "clusters.parquet")
    (folder / "manifest.json").write_text(json.dumps({"rows": len(cluster), "clusters": len(sizes)}))
    (folder / "config.yaml").write_text(FitConfig().to_yaml())
    (folder / "_SUCCESS").touch()
    return folder


def make_ids(kind: pa.DataType, numbers: Any) -> pa.Array:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.array([f"{n:07d}" for n in numbers], kind)
    return pa.array(np.asarray(numbers) + 2**53).cast(kind)


@pytest.mark.parametrize("rows_per_part", [7, 1 << 22])
@pytest.mark.parametrize(
    ("old_kind", "new_kind"),
    [(pa.int64(), pa.int64()), (pa.uint64(), pa.int64()), (pa.string(), pa.string()), (pa.string(), pa.large_string())],
)
def test_people_are_matched_by_id_in_any_order(
    old_kind: pa.DataType, new_kind: pa.DataType, rows_per_part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people, "ROWS_PER_PART", rows_per_part)
    rng = np.random.default_rng(0)
    old_numbers, new_numbers = rng.permutation(100)[:70], rng.permutation(100)[:80]
    before = dict(zip(old_numbers.tolist(), rng.integers(0, 3, 70).tolist(), strict=True))
    after = dict(zip(new_numbers.tolist(), rng.integers(0, 4, 80).tolist(), strict=True))
    expected = np.zeros((3, 4), int)
    for person in before.keys() & after.keys():
        expected[before[person], after[person]] += 1
    result = engine.compare(
        write_run(tmp_path / "old", make_ids(old_kind, old_numbers), list(before.values())),
        write_run(tmp_path / "new", make_ids(new_kind, new_numbers), list(after.values())),
        out=tmp_path / "movers.parquet",
    )
    np.testing.assert_array_equal(result.moves, expected)
    facts = result.facts()
    assert (facts["common"], facts["left"], facts["joined"]) == (
        expected.sum(), 70 - expected.sum(), 80 - expected.sum(),
    )  # fmt: skip
    movers = pq.read_table(tmp_path / "movers.parquet")
    assert movers.column_names == ["who", "old", "new", "matched"]
    assert movers["who"].type in (pa.int64(), pa.string())
    assert movers.num_rows == result.n_moved == facts["moved"]
    matched = result.changes.matched
    moved = {person for person in before.keys() & after.keys() if matched[before[person]] != after[person]}
    numbers = [int(v) if isinstance(v, str) else v - 2**53 for v in movers["who"].to_pylist()]
    assert set(numbers) == moved
    for number, row in zip(numbers, movers.to_pylist(), strict=True):
        assert (row["old"], row["new"]) == (before[number], after[number])
        assert row["matched"] == (None if matched[row["old"]] < 0 else matched[row["old"]])


def test_a_run_is_what_it_was(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", make_ids(pa.string(), range(30)), [0, 1, 2] * 10)
    result = engine.compare(run, engine.Run(run), out=tmp_path / "movers")
    assert result.n_moved == 0
    assert result.adjusted_rand_index == 1.0
    assert pq.read_table(tmp_path / "movers").num_rows == 0
    assert "0 people moved (0 %)" in result.describe()


def test_every_verdict_is_put_into_words(tmp_path: Path) -> None:
    numbers = np.arange(1000)
    old = np.select([numbers < 300, numbers < 500, numbers < 700, numbers < 900], [0, 1, 2, 3], 4)
    new = np.select([numbers < 150, numbers < 300, numbers < 700, numbers < 900], [0, 1, 2, 3], 4)
    people = np.r_[numbers[:900], numbers[900:] + 1000]  # all of the last cluster left, and others joined
    result = engine.compare(
        write_run(tmp_path / "old", pa.array(numbers), old.tolist()),
        write_run(tmp_path / "new", pa.array(people), new.tolist(), k=6),
    )
    words = result.describe()
    for said in (
        "900 people in both runs, 100 left, 100 joined",
        "split   “Cluster 0” (0) was split into “Cluster 0” (0), 50 % and “Cluster 1” (1), 50 %",
        "merged  “Cluster 1” (1) went into “Cluster 2” (2), with 100 % of its people",
        "kept    “Cluster 3” (3) is now 3: 200 → 200 people, 100 % stayed",
        "died    “Cluster 4” (4): all of its 100 people left",
        "new     “Cluster 2” (2), 400 people: merged from “Cluster 1” (1), 50 % of it and “Cluster 2” (2), 50 % of it",
        "born    “Cluster 4” (4): all of its 100 people joined",
        "born    “Cluster 5” (5): nobody is in it",
    ):
        assert said in words
    json.dumps(result.facts(), allow_nan=False)


def test_runs_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    numbers = write_run(tmp_path / "numbers", pa.array(range(10)), [0, 1] * 5)
    others = write_run(tmp_path / "others", pa.array(range(50, 60)), [0, 1] * 5)
    texts = write_run(tmp_path / "texts", make_ids(pa.string(), range(10)), [0, 1] * 5)
    named = write_run(tmp_path / "named", pa.array(range(10)), [0, 1] * 5, id="user")
    counted = [write_run(tmp_path / f"row{n}", pa.array(range(n)), [0, 1] * (n // 2), id="row") for n in (10, 12)]
    with pytest.raises(NothingInCommonError, match="no 'who' in common"):
        engine.compare(numbers, others)
    with pytest.raises(IdColumnError, match=r"holds int64 in .*numbers and string in .*texts"):
        engine.compare(numbers, texts)
    with pytest.raises(IdColumnError, match=r"by column 'who', .* by 'user'"):
        engine.compare(numbers, named)
    with pytest.raises(IdColumnError, match="10 and 12 rows"):
        engine.compare(*counted)
    assert engine.compare(counted[0], counted[0]).n_moved == 0
    with pytest.raises(ModelNotReadableError, match="not a complete run"):
        engine.compare(numbers, tmp_path)
    (tmp_path / "there.parquet").touch()
    with pytest.raises(OutputExistsError):
        engine.compare(numbers, numbers, out=tmp_path / "there.parquet")
    with pytest.raises(UsageError, match="named as feather, but tables are written as Parquet"):
        engine.compare(numbers, numbers, out=tmp_path / "moved.arrow")
    for name in ("old", "new", "matched"):
        clashing = write_run(tmp_path / name, pa.array(range(10)), [0, 1] * 5, id=name)
        assert engine.compare(clashing, clashing).n_common == 10
        with pytest.raises(UsageError, match=f"id column is named '{name}'"):
            engine.compare(clashing, clashing, out=tmp_path / "moved.parquet")
    assert not (tmp_path / "moved.parquet").exists()


def test_the_command_tells_personas_and_writes_who_moved(demo: DemoPaths, run: engine.Run, tmp_path: Path) -> None:
    coarse = FitConfig.merge({}, kmeans={"n_clusters": 8}, skip=["map", "report"])
    new = engine.fit(demo.members, out=tmp_path / "new", id="user_id", config=coarse)
    done = CliRunner().invoke(app, ["compare", str(run.path), str(new.path), "--out", str(tmp_path / "m.parquet")])
    assert done.exit_code == 0, done.stderr
    assert "20,000 people in both runs, 0 left, 0 joined" in done.stdout
    assert all(persona["name"] in done.stdout for persona in run.personas)
    assert "merged from" in done.stdout
    done = CliRunner().invoke(app, ["compare", str(run.path), str(new.path), "--json"])
    facts = json.loads(done.stdout)
    assert np.array(facts["moves"]).sum() == 20_000
    assert facts["moved"] == pq.read_metadata(tmp_path / "m.parquet").num_rows
    assert CliRunner().invoke(app, ["compare", str(run.path), str(tmp_path)]).exit_code == 6

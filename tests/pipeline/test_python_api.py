"""engine.fit takes all that the command line takes, and model.assign takes rows as dicts."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import engine
from engine.errors import ConfigError, MissingColumnError, RetypedColumnError
from engine.execution.threads import thread_count
from engine.pipeline import fit as pipeline_fit

SKIP = ["explain", "map", "report"]


def people(n_rows: int = 400) -> pd.DataFrame:
    random = np.random.default_rng(0)
    group = random.integers(3, size=n_rows)
    return pd.DataFrame(
        {
            "person": [f"p{i:04}" for i in range(n_rows)],
            "age": 20 + 15 * group + random.normal(size=n_rows),
            "visits": random.poisson(3 + 4 * group).astype(float),
            "city": random.choice(["Rome", "Oslo", "Lima"], n_rows),
        }
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> engine.Run:
    out = tmp_path_factory.mktemp("api") / "run"
    return engine.fit(people(), out=out, id="person", n_clusters=3, skip=SKIP, roles={"city": "ignore"}, threads=1)


def test_arguments_of_a_fit_are_those_of_the_command_line(run: engine.Run, tmp_path: Path) -> None:
    config = {
        "id": "person",
        "skip": SKIP,
        "kmeans": {"n_clusters": 3},
        "features": {"roles": {"city": "ignore"}, "groups": {"rest": {"weight": 2.0}}},
    }
    (tmp_path / "fit.yaml").write_text(engine.FitConfig.merge(config).to_yaml())
    by_file = engine.fit(people(), out=tmp_path / "file", config=tmp_path / "fit.yaml")
    by_mapping = engine.fit(people(), out=tmp_path / "mapping", config=config)
    by_arguments = engine.fit(
        people(), out=tmp_path / "arguments", id="person", n_clusters=3, skip=SKIP, roles={"city": "ignore"},
        weights={"rest": 2.0},
    )  # fmt: skip
    assert by_file.assignments.equals(by_mapping.assignments)
    assert by_file.assignments.equals(by_arguments.assignments)
    written = {(made.path / "config.yaml").read_text() for made in (by_file, by_mapping, by_arguments)}
    assert len(written) == 1
    assert by_file.assignments.equals(run.assignments)  # one group: its weight changes nothing


def test_a_fit_continues_a_previous_run(run: engine.Run, tmp_path: Path) -> None:
    tonight = engine.fit(people(420), out=tmp_path / "tonight", id="person", skip=SKIP, previous=run.path)
    assert tonight.manifest["previous"] == str(run.path)


def test_threads_hold_for_the_fit_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    counts: list[int] = []
    monkeypatch.setattr(
        pipeline_fit, "_fit_or_fall_back", lambda *arguments: counts.append(thread_count()) or engine.Run
    )
    before = thread_count()
    engine.fit(people(), out=tmp_path / "run", threads=7)
    engine.fit(people(), out=tmp_path / "run")
    assert (counts, thread_count()) == ([7, before], before)


def test_unknown_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"kmeans\.clusters"):
        engine.fit(people(), out=tmp_path / "run", config={"kmeans": {"clusters": 3}})
    with pytest.raises(ConfigError, match="skip"):
        engine.fit(people(), out=tmp_path / "run", skip=["maps"])


def test_the_index_of_a_pandas_frame_is_the_id_by_its_name(
    run: engine.Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frame = people().set_index("person")
    with caplog.at_level(logging.INFO, logger="engine.tables"):
        indexed = engine.fit(
            frame, out=tmp_path / "run", id="person", n_clusters=3, skip=SKIP, roles={"city": "ignore"}
        )
    assert "The id 'person' is the index of the data frame." in caplog.messages
    assert indexed.assignments.equals(run.assignments)
    assert run.model.assign(frame).equals(run.model.assign(people()))
    with pytest.raises(MissingColumnError, match="'person'"):
        engine.fit(frame.rename_axis("other"), out=tmp_path / "other", id="person", skip=SKIP)


def test_rows_as_dicts_are_assigned_as_in_a_table(run: engine.Run) -> None:
    frame = people()[:10]
    rows: list[dict[str, Any]] = frame.to_dict("records")
    expected = run.model.assign(frame)
    assert run.model.assign(rows).equals(expected)
    assert run.model.assign(tuple(rows)).equals(expected)
    assert run.model.assign(rows[3]).equals(expected.slice(3, 1))
    without_city = [{name: value for name, value in row.items() if name != "city"} for row in rows]
    assert run.model.assign(without_city).equals(expected)
    assert run.model.assign([rows[0], {"person": "new", "age": 30.0}])["person"].to_pylist() == ["p0000", "new"]


def test_dicts_that_make_no_table_are_refused(run: engine.Run) -> None:
    rows = people()[:2].to_dict("records")
    with pytest.raises(RetypedColumnError, match="'age' wants a number, but has a text in row 1") as raised:
        run.model.assign([rows[0], rows[1] | {"age": "forty"}])
    assert "forty" not in str(raised.value)
    with pytest.raises(MissingColumnError, match="'age'"):
        run.model.assign({"person": "p1", "visits": 3.0})

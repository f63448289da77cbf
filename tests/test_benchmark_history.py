"""The history of benchmark results: which figures a run adds, and how they are shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import history
import pytest

MACHINE = {"cpu": "znver3", "lanes": 8}


def kmeans(**cases: float) -> dict[str, Any]:
    timed = {name: {"results": {"engine": {"seconds": [seconds, 9.0, seconds]}}} for name, seconds in cases.items()}
    return {"machine": MACHINE, "cases": timed}


def line(figures: dict[str, float], commit: str = "abc1234", cpu: str = "znver3") -> dict[str, Any]:
    return {"date": "2026-11-28", "commit": commit, "cpu": cpu, "lanes": 8, "figures": figures}


def added(name: str, document: dict[str, Any], earlier: dict[str, Any]) -> list[dict[str, Any]]:
    return list(history.lines(name, document, earlier, "2026-11-28", "abc1234"))


def test_headline_figures_are_flat_numbers_and_lists_count_with_their_median() -> None:
    case = {"results": {"engine": {"seconds": [3.0, 1.0, 2.0]}, "faiss": {"seconds": [9.0]}}, "times_faster": 4.5}
    found = history.headline("kmeans_8_lanes", "mixture A", case)
    assert found == {"mixture A: results/engine/seconds": 2.0, "mixture A: times_faster": 4.5}
    rounds = {"rounds": {"local": [{"seconds": 5.0}, {"seconds": 1.0}, {"seconds": 2.0}]}, "load": 1.5}
    assert history.headline("dask", "", rounds) == {"rounds/local/seconds": 2.0}


def test_files_of_other_sizes_have_the_same_figures() -> None:
    for name in ("pipeline-200000", "pipeline-18-columns"):
        assert history.headline(name, "", {"times_faster": 3, "clusters": "12"}) == {"times_faster": 3.0}


def test_rows_of_a_list_are_cases_of_their_own() -> None:
    document = {"machine": MACHINE, "tsne": [{"rows": 10, "seed": 1, "rooms": {"kl": 2.5}}]}
    assert added("tsne", document, {}) == [line({"tsne rows 10, seed 1: rooms/kl": 2.5})]


def test_only_cases_that_were_measured_anew_are_added() -> None:
    earlier = kmeans(A=1.0, B=2.0)
    assert added("kmeans", kmeans(A=1.0, B=3.0), earlier) == [line({"B: results/engine/seconds": 3.0})]
    assert added("kmeans", earlier, earlier) == []


def test_a_case_of_another_cpu_is_not_taken_for_one_of_this_cpu() -> None:
    earlier = kmeans(A=1.0)
    document = kmeans(A=1.0, B=2.0)
    document["cases"]["A"]["cpu"] = "znver5"  # noted when a run on another machine wrote the file
    assert [found["cpu"] for found in added("kmeans", document, earlier)] == ["znver3"]
    assert {found["cpu"] for found in added("kmeans", document, {})} == {"znver3", "znver5"}


def test_the_file_name_tells_the_lanes_where_the_machine_does_not() -> None:
    document = kmeans(A=1.0) | {"machine": {"cpu": "cascadelake"}}
    assert added("kmeans_16_lanes", document, {})[0]["lanes"] == 16
    assert added("kmeans", document, {})[0]["lanes"] is None


def test_recording_writes_the_result_and_adds_a_line_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commits = iter(["abc1234", "abc1234", "abc1234", "def5678+changes"])
    monkeypatch.setattr(history, "_head", lambda: next(commits))
    path = tmp_path / "results" / "kmeans_8_lanes.json"
    history.record(path, kmeans(A=1.0))
    history.record(path, kmeans(A=1.0, B=2.0))  # another case of the same run: the same line
    history.record(path, kmeans(A=4.0, B=2.0))  # the same case again: another run
    history.record(path, kmeans(A=5.0, B=2.0))
    assert json.loads(path.read_text()) == kmeans(A=5.0, B=2.0)
    found = [(one["commit"], one["figures"]) for one in history.read(history.history_of(path))]
    a, b = "A: results/engine/seconds", "B: results/engine/seconds"
    assert found == [
        ("abc1234", {a: 1.0, b: 2.0}),
        ("abc1234", {a: 4.0}),
        ("def5678+changes", {a: 5.0}),
    ]


def test_git_adds_what_a_history_lacks_and_nothing_twice() -> None:
    known = [line({"a": 1.0, "b": 2.0}, "new+changes")]
    older = [line({"a": 7.0}, "older"), line({"b": 2.0}, "same run"), line({"b": 2.0}, "other", "znver5")]
    once = history.merged(known, older)
    assert [one["commit"] for one in once] == ["older", "other", "new+changes"]
    assert history.merged(once, older) == once


def test_the_table_names_a_figure_once_and_shows_every_run_of_it() -> None:
    shown = history.table([line({"a": 1.0, "b": 2.0}), line({"a": 1.5}, "def5678+changes")])
    assert [row.split() for row in shown.splitlines()] == [
        ["figure", "date", "commit", "cpu", "lanes", "value"],
        ["a", "2026-11-28", "abc1234", "znver3", "8", "1"],
        ["2026-11-28", "def5678+changes", "znver3", "8", "1.5"],
        ["b", "2026-11-28", "abc1234", "znver3", "8", "2"],
    ]


def test_committed_results_have_a_history() -> None:
    for path in sorted(history.RESULTS.glob("*.json")):
        newest = history.read(history.history_of(path))[-1]["figures"]
        document = json.loads(path.read_text())
        now = {}
        for case, result in history.cases(document).items():
            now |= history.headline(path.stem, case, result)
        assert newest.items() <= now.items(), path.name


def test_trends_are_drawn_with_a_line_a_cpu(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: it draws the trends")
    lines = [line({"a": 1.0}), line({"a": 2.0}, cpu="znver5"), line({"a": 3.0})]
    history.plot({"pca": lines}, tmp_path / "trends.png")
    assert (tmp_path / "trends.png").read_bytes().startswith(b"\x89PNG")

"""The picture of a history: sizes over nights, with births, splits and deaths where they happened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import engine
from engine.config import FitConfig
from engine.report.charts import history_chart
from engine.report.html_report import write_report
from engine.report.palette import palette


def lineage() -> dict[str, Any]:
    """Return four nights: 2 is born on night 1, 3 splits off 0 on night 2, and 1 is gone since night 3."""
    sizes = [
        {"0": 60, "1": 40},
        {"0": 60, "1": 40, "2": 9},
        {"0": 30, "1": 20, "2": 9, "3": 30},
        {"0": 50, "2": 9, "3": 30},
    ]
    nights = [{"night": n, "model": "m", "rows": sum(s.values()), "sizes": s} for n, s in enumerate(sizes)]
    clusters: list[dict[str, Any]] = [
        {"number": 0, "born": 0, "parents": [], "names": [[0, "Tea <b>"]], "died": None},
        {"number": 1, "born": 0, "parents": [], "names": [], "died": 3},
        {"number": 2, "born": 1, "parents": [], "names": [[1, "Café"]], "died": None},
        {"number": 3, "born": 2, "parents": [0], "names": [[2, "Owls"]], "died": None},
    ]
    return {"format": 1, "nights": nights, "clusters": clusters}


def test_lines_and_marks_are_where_it_happened() -> None:
    data = history_chart(lineage())["data"]
    lines = {trace["meta"]: trace for trace in data if trace["mode"] == "lines"}
    assert {number: (line["x"], line["y"]) for number, line in lines.items()} == {
        0: ([0, 1, 2, 3], [60, 60, 30, 50]),
        1: ([0, 1, 2], [40, 40, 20]),
        2: ([1, 2, 3], [9, 9, 9]),
        3: ([2, 3], [30, 30]),
    }
    marks = {
        (trace["meta"], trace["marker"]["symbol"], *trace["x"], *trace["y"])
        for trace in data
        if trace["mode"] == "markers"
    }
    assert marks == {(2, "triangle-up", 1, 9), (3, "diamond", 2, 30), (1, "x", 2, 20)}
    assert [lines[number]["line"]["color"] for number in range(4)] == palette(range(4))
    assert lines[0]["name"] == "Tea &lt;b&gt;"
    assert lines[1]["name"] == "Cluster 1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    x = np.random.default_rng(0).normal(size=300) + np.arange(300) % 2 * 9
    out = tmp_path_factory.mktemp("report") / "run"
    engine.fit(pa.table({"x": x}), out=out, n_clusters=2, config=FitConfig.merge({}, skip=["explain", "map"]))
    return out


def test_the_report_has_the_picture_if_there_is_more_than_one_night(folder: Path) -> None:
    assert 'id="history"' not in (folder / "report.html").read_text()
    document = lineage()
    (folder / "lineage.json").write_text(json.dumps(document))
    page = write_report(folder).read_text()
    assert 'id="chart-history"' in page
    assert 'href="#history"' in page
    for words in ("Night 1: 2 “Café” was born", "Night 2: 3 “Owls” split off 0", "Night 3: 1 is gone"):
        assert words in " ".join(page.split())
    document["nights"], document["clusters"] = document["nights"][:1], document["clusters"][:2]
    (folder / "lineage.json").write_text(json.dumps(document))
    assert 'id="history"' not in write_report(folder).read_text()

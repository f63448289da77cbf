"""Tests of the report as a file: complete, offline, escaped, and correct for unusual runs."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import shutil
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import engine
from engine.cli import app
from engine.config import FitConfig
from engine.errors import ModelNotReadableError, NotMappedError
from engine.report import charts
from engine.report.contents import _describe_sureness
from engine.report.html_report import _describe_dots, _headline, dump_script_json
from engine.utils.domain_words import DEFAULT_WORDS
from engine.utils.formatting import format_percent
from tests.explain.people import HOSTILE, people


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> engine.Run:
    out = tmp_path_factory.mktemp("report") / "run"
    config = FitConfig.merge({}, kmeans={"k_max": 6}, skip=["map"])
    return engine.fit(people(), out=out, id="who", n_clusters="auto", config=config)


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the texts inside and outside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inline: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag = self.elements[-1][0] if self.elements else ""
        if tag in ("script", "style"):
            self.inline.append((tag, data))
        else:
            self.words.append(data)


def test_the_page_loads_nothing_and_runs_only_the_scripts_its_policy_names(run: engine.Run) -> None:
    html = (run.path / "report.html").read_text(encoding="utf-8")
    elements = Elements(html)
    assert not [attrs for _, attrs in elements.elements if attrs.get("src")]
    assert all((attrs.get("href") or "#").startswith("#") for _, attrs in elements.elements)
    assert not [name for _, attrs in elements.elements for name in attrs if name.startswith("on") or name == "style"]
    policy = next(attrs["content"] for tag, attrs in elements.elements if tag == "meta" and "http-equiv" in attrs)
    assert policy is not None
    assert "default-src 'none'" in policy
    assert not re.search(r"script-src[^;]*unsafe", policy)
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    (compressed,) = re.findall(r'id="plotly">(.*?)</script>', html, re.DOTALL)
    plotly_js = gzip.decompress(base64.b64decode(compressed)).decode()
    assert "plotly.js" in plotly_js[:200]
    for text in (script, plotly_js):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy
    assert len(html.encode()) < 3 * 2**20


def test_hostile_names_are_escaped(run: engine.Run) -> None:
    html = (run.path / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html
    (embedded,) = re.findall(r'id="contents">(.*?)</script>', html, re.DOTALL)
    assert not set("<>&") & set(embedded)
    contents = json.loads(embedded)
    assert "<script" not in json.dumps([contents["charts"], contents["boxes"]])  # plotly would make elements of it
    assert any(HOSTILE in feature["what"] for feature in contents["features"])  # the script sets it as text
    assert "<script>" in HOSTILE


def test_embedded_json_cannot_end_its_element() -> None:
    text = dump_script_json({"a": "</script><!-- & \u2028"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": "</script><!-- & \u2028"}


def test_the_report_shows_the_personas_rules_and_stages_of_the_run(run: engine.Run) -> None:
    html = (run.path / "report.html").read_text(encoding="utf-8")
    words = " ".join(Elements(html).words).replace("\u00a0%", " %")
    for persona in run.personas:
        assert persona["name"] in words
        assert all(sentence in words for sentence in persona["sentences"])
        assert 1 <= len(persona["profile"]) <= 8
        assert all(row["what"] in words and row["here"] in words for row in persona["profile"])
    for cluster in run.rules["clusters"]:
        assert all(rule["words"] in words for rule in cluster["rules"])
    for stage in ("statistics", "pca", "k-means", "explain"):
        assert stage in words
    assert "This run has no map." in words
    assert [stage["stage"] for stage in run.manifest["stages"]][-2:] == ["report", "audit"]


def test_the_command_writes_the_report_again_and_rejects_incomplete_runs(run: engine.Run, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    (copy / "report.html").unlink()
    result = CliRunner().invoke(app, ["report", str(copy), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["report"] == str(copy / "report.html")
    assert (copy / "report.html").stat().st_size == json.loads(result.stdout)["bytes"]
    assert CliRunner().invoke(app, ["report", str(tmp_path)]).exit_code == 6
    (copy / "elbow.csv").unlink()
    with pytest.raises(ModelNotReadableError, match="elbow"):
        engine.Run(copy).report()


def test_the_report_shows_a_map_if_the_run_has_one(run: engine.Run, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    with pytest.raises(NotMappedError, match="no map"):
        engine.Run(copy).plot_map()
    labels = run.assignments["cluster"].to_numpy()
    rng = np.random.default_rng(0)
    columns = {
        "who": run.assignments["who"],
        "cluster": labels,
        "map_x": rng.random(len(labels)),
        "map_y": labels * 2.0,
    }
    pq.write_table(pa.table(columns), copy / "map.parquet")
    figure = engine.Run(copy).plot_map()
    assert len(figure.data) == run.manifest["clusters"]
    assert sum(len(trace.x) for trace in figure.data) == len(labels)
    html = engine.Run(copy).report().read_text(encoding="utf-8")
    assert "Each dot" in html
    assert "t-SNE keeps neighbours, not distances" in html
    assert 'id="chart-map"' in html
    assert "id-000" not in html


def test_a_run_without_rules_or_map_has_a_report_that_says_so(run: engine.Run, tmp_path: Path) -> None:
    assert 'class="rules"' in (run.path / "report.html").read_text(encoding="utf-8")
    config = FitConfig.merge({}, skip=["explain", "map"])
    bare = engine.fit(people(300), out=tmp_path / "run", id="who", n_clusters=3, config=config)
    html = (bare.path / "report.html").read_text(encoding="utf-8")
    assert 'class="rules"' not in html
    assert 'id="features"' not in html
    assert "Cluster 0" in html
    assert "This run has no map." in html
    labels = bare.assignments["cluster"].to_numpy()
    coordinates = {"map_x": np.arange(300.0), "map_y": labels * 2.0}
    pq.write_table(pa.table({"cluster": labels, **coordinates}), bare.path / "map.parquet")
    html = bare.report().read_text(encoding="utf-8")
    assert "Each dot" in html
    assert "Cluster 0" in html


def test_a_run_can_go_without_a_report(tmp_path: Path) -> None:
    config = FitConfig.merge({}, skip=["report", "map"])
    run = engine.fit(people(200), out=tmp_path / "run", id="who", n_clusters=2, config=config)
    assert not (run.path / "report.html").exists()
    assert "report" not in {stage["stage"] for stage in run.manifest["stages"]}


def test_one_cluster_and_undefined_scores_are_shown(tmp_path: Path) -> None:
    config = FitConfig.merge({}, skip=["map"])
    run = engine.fit(people(200), out=tmp_path / "run", id="who", n_clusters=1, config=config)
    words = " ".join(Elements((run.path / "report.html").read_text(encoding="utf-8")).words)
    assert "not defined" in words
    assert "nan" not in words.lower().split()
    assert "Everybody" in words


def test_charts_contain_no_nan_and_axis_labels_are_all_different() -> None:
    elbow = {"k": [1, 2, 3], "inertia": [3.0, 2.0, 1.0], "silhouette": [float("nan"), 0.1, 0.2],
             "calinski_harabasz": [None, 1.0, 2.0], "davies_bouldin": [float("nan"), 1.0, 1.0],
             "stability": [float("nan"), 1.0, 0.9],
             "chosen": [0, 1, 0]}  # fmt: skip
    chart = charts.elbow_chart(elbow)
    json.dumps(chart, allow_nan=False)
    assert chart["data"][1]["y"] == [None, 0.1, 0.2]
    assert chart["data"][0]["marker"]["size"] == [6, 13, 6]
    long = "x" * 60
    assert len(set(charts.axis_labels([long + "a", long + "b", "c", "c"]))) == 4
    assert charts.plotly_text("<b>&\u202e") == "&lt;b&gt;&amp;"


def test_every_cluster_is_on_the_map_however_small() -> None:
    cluster = np.r_[np.zeros(50_000, int), np.ones(30, int)]
    xy = np.random.default_rng(0).random((2, len(cluster)))
    chart = charts.map_chart(xy[0], xy[1], cluster, ["big", "small", "empty"], [50_000, 30, 0], [0, 1, 2])
    points = [len(trace["x"]) for trace in chart["data"]]
    assert points[0] <= charts.MAP_POINTS
    assert points[1] >= charts.MIN_CLUSTER_POINTS
    assert points[2] == 0


def test_notebooks_show_runs_models_and_figures(run: engine.Run) -> None:
    html = run._repr_html_()
    assert all(escape(persona["name"])[:10] in html for persona in run.personas)
    assert "<script" not in html + run.model._repr_html_()
    assert "age" in run.model._repr_html_()
    figure = run.plot_elbow()
    assert list(figure.data[0].x) == run.elbow["k"].to_pylist()


def test_the_headline_is_of_the_rules_shown_and_stability_is_told(run: engine.Run) -> None:
    words = " ".join(Elements((run.path / "report.html").read_text(encoding="utf-8")).words)
    described = sum(cluster["coverage"] * cluster["users"] for cluster in run.rules["clusters"])
    share = format_percent(described / run.manifest["rows"])
    assert f"{share} of the people are matched by the rules shown" in " ".join(words.split())
    assert "of this group is found again on average (60 % is asked of a stable group)." in " ".join(words.split())


@pytest.mark.parametrize(
    ("stable", "figure"),
    [(0, ("0 of 2", "clusters are stable groups")), (1, ("1 of 2", "clusters is a stable group")),
     (2, ("2 of 2", "clusters are stable groups"))],
)  # fmt: skip
def test_the_headline_counts_the_clusters_that_are_called_stable(stable: int, figure: tuple[str, str]) -> None:
    clusters = [_describe_sureness(value) for value in ([0.69] * stable + [0.599] * 2)[:2]]
    words = [cluster["sureness_words"] for cluster in clusters]
    assert words == (["69 % found again"] * stable + ["not stable: 59 % found again"] * 2)[:2]
    contents: Any = SimpleNamespace(
        manifest={"rows": 9, "clusters": 2}, words=DEFAULT_WORDS, columns=[{}], clusters=clusters, rules=None
    )
    assert _headline(contents) == [("1", "column of each"), figure]


def test_dots_that_are_a_choice_of_the_rows_are_called_a_sample() -> None:
    charts: dict[str, Any] = {"map": {"data": [{"x": [0.0] * 5_000}, {"x": [0.0]}]}}
    contents: Any = SimpleNamespace(manifest={"rows": 20_000}, words=DEFAULT_WORDS, charts=charts)
    assert _describe_dots(contents) == "Each dot is one of a sample of 5,001 of 20,000 people"
    contents.manifest["rows"] = 5_001
    assert _describe_dots(contents) == "Each dot is one of the 5,001 people"

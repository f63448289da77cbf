"""Tests of the report in a browser: drawn in time, usable by mouse, keyboard and screen reader, on any screen."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import engine
from engine.config import FitConfig
from tests.explain.people import people

SHAPES: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 1360, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1360, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
}


def fit_with_map(table: pa.Table, out: Path, k: int) -> engine.Run:
    run = engine.fit(table, out=out, id="who", n_clusters=k, config=FitConfig.merge({}, skip=["map", "report"]))
    labels = run.assignments["cluster"].to_numpy()[::3]  # a third of the rows, because axe checks every dot
    xy = np.random.default_rng(0).normal(size=(2, len(labels))) + 6 * np.stack([labels % 7, labels // 7])
    pq.write_table(pa.table({"cluster": labels, "map_x": xy[0], "map_y": xy[1]}), run.path / "map.parquet")
    run.report()
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> engine.Run:
    return fit_with_map(people(), tmp_path_factory.mktemp("browser") / "run", 5)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = os.environ.get("ROOMS_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium is installed; set ROOMS_CHROMIUM to one")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def open_report(browser: Any, run: engine.Run, shape: str = "desktop") -> tuple[Any, list[str]]:
    """Open the report; return the page, and the list of its console messages, errors, dialogs and requests."""
    page = browser.new_context(**SHAPES[shape], offline=True).new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("request", lambda request: None if request.url.startswith("file:") else complaints.append(request.url))
    page.goto((run.path / "report.html").resolve().as_uri())
    page.wait_for_selector("html[data-complete]", timeout=30_000)
    return page, complaints


def bright_traces(page: Any) -> list[bool]:
    """Return for every trace of the map whether it is bright."""
    bright: list[bool] = page.evaluate(
        "document.getElementById('chart-map').data.map(trace => trace.marker.opacity > 0.5)"
    )
    return bright


def axes_of_the_map(page: Any) -> list[list[float]]:
    """Return the ranges of the map's axes."""
    ranges: list[list[float]] = page.evaluate(
        "['xaxis', 'yaxis'].map(axis => document.getElementById('chart-map')._fullLayout[axis].range)"
    )
    return ranges


@pytest.mark.parametrize("shape", SHAPES)
def test_it_opens_without_errors_and_no_wider_than_the_screen(browser: Any, run: engine.Run, shape: str) -> None:
    page, complaints = open_report(browser, run, shape)
    assert complaints == []
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    drawn = page.evaluate("[...document.querySelectorAll('.chart')].map(c => c.querySelectorAll('.main-svg').length)")
    assert drawn
    assert min(drawn) > 0


def highlighted(page: Any) -> dict[str, list[str]]:
    """Return the clusters that are highlighted, by where they are."""
    found: dict[str, list[str]] = page.evaluate("""() => ({
        list: [...document.querySelectorAll("[data-cluster][aria-pressed=true]")].map(b => b.dataset.cluster),
        cards: [...document.querySelectorAll("[data-card].chosen")].map(c => c.dataset.card),
        table: [...document.querySelectorAll("#feature-table thead .chosen")].map(h => h.dataset.column),
        boxes: document.getElementById("chart-box").data.filter(b => b.opacity > 0.5).map(b => String(b.meta)),
    })""")
    return found


def test_a_chosen_cluster_is_highlighted_everywhere_and_leaves_the_axes_where_they_are(
    browser: Any, run: engine.Run
) -> None:
    page, complaints = open_report(browser, run)
    ranking = page.get_by_role("group", name="Clusters, the largest first")
    axes = axes_of_the_map(page)
    assert bright_traces(page) == [True] * 5
    ranking.locator("[data-cluster='2']").click()
    assert bright_traces(page) == [False, False, True, False, False]
    assert highlighted(page) == {"list": ["2"], "cards": ["2"], "table": ["2"], "boxes": ["2"]}
    assert axes_of_the_map(page) == axes
    page.locator("[data-card='2'] h3").click()
    assert bright_traces(page) == [True] * 5
    page.locator("[data-card='3'] h3").click()
    assert highlighted(page)["list"] == ["3"]
    ranking.get_by_role("button", name="All clusters").click()
    assert bright_traces(page) == [True] * 5
    assert complaints == []


def test_a_click_on_a_dot_chooses_its_cluster(browser: Any, run: engine.Run) -> None:
    page, _ = open_report(browser, run)
    page.evaluate("document.getElementById('chart-map').emit('plotly_click', { points: [{ data: { meta: 4 } }] })")
    assert highlighted(page)["list"] == ["4"]


def test_the_first_screen_shows_the_map_and_the_first_clusters(browser: Any, run: engine.Run) -> None:
    for shape in ("desktop", "phone"):
        page, _ = open_report(browser, run, shape)
        height = page.evaluate("window.innerHeight")
        for selector in ("#chart-map", ".entry .traits"):
            box = page.locator(selector).first.bounding_box()
            assert box["y"] + box["height"] <= height, (shape, selector)


def test_the_table_of_features_sorts_searches_and_downloads(browser: Any, run: engine.Run) -> None:
    page, complaints = open_report(browser, run)

    def first_column() -> list[str]:
        names: list[str] = page.locator("#feature-table tbody th").all_text_contents()
        return names

    importances = [feature["importance"] for feature in run.features]
    assert importances == sorted(importances, reverse=True)
    assert first_column() == [feature["what"] for feature in run.features][:25]
    page.get_by_label("Search").fill("AGE")
    assert first_column()
    assert all("age" in name.lower() for name in first_column())
    page.get_by_label("Search").fill("")
    page.locator("#feature-table thead button").nth(3).click()
    differences = {f["what"]: (f["clusters"][0] or {"difference": -99.0})["difference"] for f in run.features}
    shown = [differences[name] for name in first_column()]
    assert shown == sorted(shown, reverse=True)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as CSV").click()
    lines = Path(download.value.path()).read_text(encoding="utf-8-sig").splitlines()
    assert len(lines) == 1 + len(run.features)
    assert complaints == []


def test_another_feature_can_be_chosen_for_the_box_plots(browser: Any, run: engine.Run) -> None:
    page, complaints = open_report(browser, run)
    medians = "document.getElementById('chart-box').data.map(box => box.median[0])"
    before = page.evaluate(medians)
    page.locator("#box-feature").select_option(index=1)
    page.wait_for_function(f"JSON.stringify({medians}) !== '{json.dumps(before, separators=(',', ':'))}'")
    assert complaints == []


def test_hovering_over_a_dot_shows_the_persona_and_its_size(browser: Any, run: engine.Run) -> None:
    page, _ = open_report(browser, run)
    dot = page.locator("#chart-map .scatterlayer path.point").nth(7)
    box = dot.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#chart-map .hoverlayer text")
    hover_text = page.locator("#chart-map .hoverlayer").text_content()
    assert "people" in hover_text
    assert any(persona["name"][:20] in hover_text for persona in run.personas)


def test_a_rule_is_visible(browser: Any, run: engine.Run) -> None:
    page, _ = open_report(browser, run)
    rule = next(cluster["rules"][0] for cluster in run.rules["clusters"] if cluster["rules"])
    assert page.locator("#personas").get_by_text(rule["words"].replace(" %", "\u00a0%"), exact=True).first.is_visible()


def test_the_keyboard_reaches_the_content_the_legend_and_the_details(browser: Any, run: engine.Run) -> None:
    page, _ = open_report(browser, run)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the report"
    page.locator("[data-cluster='1']").focus()
    page.keyboard.press("Enter")
    assert bright_traces(page) == [False, True, False, False, False]
    page.locator("#data summary").focus()
    page.keyboard.press("Space")
    assert page.locator("#data table").is_visible()


def test_the_theme_button_changes_the_page_and_the_charts(browser: Any, run: engine.Run) -> None:
    page, _ = open_report(browser, run)

    def page_colors() -> list[str]:
        return [
            page.evaluate("getComputedStyle(document.body).backgroundColor"),
            page.evaluate("document.getElementById('chart-variance').layout.font.color"),
        ]

    light = page_colors()
    page.get_by_role("button", name="Dark colours").click()
    dark = page_colors()
    assert not set(light) & set(dark)
    page.get_by_role("button", name="Light colours").click()
    assert page_colors() == light


@pytest.mark.parametrize("shape", ["dark", "phone"])  # both palettes, both layouts
def test_axe_finds_nothing_serious(browser: Any, run: engine.Run, shape: str) -> None:
    from axe_core_python.sync_playwright import Axe

    page, _ = open_report(browser, run, shape)
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    # The page's policy blocks foreign scripts, but not one that the test evaluates in the browser.
    violations = Axe().run(page)["violations"]
    serious = [v for v in violations if v["impact"] in ("serious", "critical")]
    assert [(v["id"], [n["html"][:90] for n in v["nodes"][:3]]) for v in serious] == []


# A few of the things a report makes a browser do: 20,000 shapes, 400,000 objects to sort, one layout.
REFERENCE_WORK = """() => {
    const svg = document.body.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "svg"));
    for (let i = 0; i < 20000; i++) {
        const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
        path.setAttribute("d", `M${i % 97},${i % 89}l5,5l-5,3Z`);
        path.style.fill = `rgb(${i % 255}, 0, 0)`;
        svg.appendChild(path);
    }
    const rows = [];
    for (let i = 0; i < 400000; i++) rows.push({ key: (i * 7919) % 400009, name: "n" + i });
    rows.sort((a, b) => a.key - b.key);
    svg.getBoundingClientRect();
    return rows.reduce((sum, row) => sum + row.name.length, 0);
}"""


def test_fifty_clusters_are_drawn_in_time_and_four_megabytes(browser: Any, tmp_path: Path) -> None:
    run = fit_with_map(people(4000), tmp_path / "run", 50)
    assert (run.path / "report.html").stat().st_size <= 4 * 2**20
    page, complaints = open_report(browser, run)
    assert complaints == []
    legend = "[...document.querySelectorAll('.ranking button')]"
    assert page.evaluate(f"{legend}.filter(button => button.scrollHeight > button.offsetHeight).length") == 0
    # A limit in seconds would depend on the machine and on what else it does: it is a multiple of other work, which
    # takes about one second where the page takes two to four, and the best of three measurements counts.
    assert min(measure_drawing_seconds(browser, run) / measure_reference_seconds(browser) for _ in range(3)) < 5.0


def measure_drawing_seconds(browser: Any, run: engine.Run) -> float:
    """Return the CPU seconds of the page's main thread until the map and the charts in view are drawn."""
    page = browser.new_context(**SHAPES["desktop"], offline=True).new_page()
    page.add_init_script("window.requestIdleCallback = () => 0")  # the other charts are drawn when idle
    devtools = watch_performance(page)
    page.goto((run.path / "report.html").resolve().as_uri())
    page.wait_for_selector("html[data-drawn]", timeout=30_000)
    seconds = read_task_seconds(devtools)
    page.close()
    return seconds


def measure_reference_seconds(browser: Any) -> float:
    """Return the CPU seconds of an empty page's main thread for the reference work."""
    page = browser.new_context(offline=True).new_page()
    devtools = watch_performance(page)
    page.goto("about:blank")
    before = read_task_seconds(devtools)
    page.evaluate(REFERENCE_WORK)
    seconds = read_task_seconds(devtools) - before
    page.close()
    return seconds


def watch_performance(page: Any) -> Any:
    devtools = page.context.new_cdp_session(page)
    devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
    return devtools


def read_task_seconds(devtools: Any) -> float:
    metrics = {metric["name"]: metric["value"] for metric in devtools.send("Performance.getMetrics")["metrics"]}
    return float(metrics["TaskDuration"])


def test_the_printed_report_is_light_and_leaves_out_the_controls(browser: Any, run: engine.Run) -> None:
    page, _ = open_report(browser, run, "dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("header").is_visible()
    assert len(page.pdf()) > 50_000


@pytest.mark.parametrize("shape", ["desktop", "phone"])
def test_long_names_do_not_widen_the_page(browser: Any, tmp_path: Path, shape: str) -> None:
    table = people(300)
    long = table.rename_columns([("x" * 300 if name == "age" else name) for name in table.column_names])
    run = fit_with_map(long, tmp_path / "run", 3)
    page, _ = open_report(browser, run, shape)
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0

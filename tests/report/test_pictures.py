"""The main views of the report look as they did: screenshots in Chromium against small committed pictures.

A picture is the screenshot reduced to a sixth, each pixel the mean of 6 x 6, and blurred: letters become grey, so how a
version of Chromium draws them does not matter, but where boxes, bars, lists and dots are does. The font is the one that
Pillow brings, so that lines break at the same words on every machine. After a change that is meant, write the pictures
anew, and look at them:

    ROOMS_WRITE_PICTURES=1 pytest -n0 tests/report/test_pictures.py
"""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageFilter
import PIL.ImageFont
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import engine
from engine.config import FitConfig
from tests.report.test_browser import browser

__all__ = ["browser"]  # the fixture

PICTURES = Path(__file__).parent / "pictures"
SCALE = 6
DIFFERENT = 16  # of 255: a pixel of the picture differs if a channel does by more
TOLERANCE = 0.01  # share of the pixels that may differ
GROUPS = ("Comedy", "Drama", "Horror", "Anime", "Crime", "Sport", "News", "Music")

VIEWS: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 1440, "height": 900}},
    "dark": {"viewport": {"width": 1440, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
    "print": {"viewport": {"width": 794, "height": 1123}},
    "cards": {"viewport": {"width": 1440, "height": 900}},
    "features": {"viewport": {"width": 1440, "height": 900}},
    "features-phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
}
ANCHORS = {"cards": "personas", "features": "features", "features-phone": "features"}

# A font from bytes is no resource that the page's policy would block, and an adopted style sheet no element.
SAME_FONT = """
const bytes = Uint8Array.from(atob("{font}"), (c) => c.charCodeAt(0));
const font = new FontFace("Same", bytes.buffer);
document.fonts.add(font);
font.load();
const sheet = new CSSStyleSheet();
sheet.replaceSync("* {{ font-family: Same !important; }} {css}");
document.addEventListener("DOMContentLoaded", () => {{ document.adoptedStyleSheets = [sheet]; }});
"""


def eight_groups() -> pa.Table:
    """Return 1,600 people of eight groups that are far apart, so that every machine finds the same clusters."""
    rng = np.random.default_rng(0)
    sizes = [380, 310, 250, 210, 160, 130, 100, 60]
    group = np.repeat(np.arange(8), sizes)
    n_rows = len(group)

    def spread(values: list[float], noise: float) -> np.ndarray:
        return np.round(np.array(values)[group] + noise * rng.standard_normal(n_rows), 2)

    return pa.table(
        {
            "who": np.arange(n_rows),
            "favourite_genre": np.where(rng.random(n_rows) < 0.9, np.array(GROUPS)[group], "Comedy"),
            "age": np.rint(spread([24, 45, 31, 22, 52, 38, 61, 28], 2.5)).astype(int),
            "weekly_hours": spread([6, 12, 4, 25, 9, 15, 3, 20], 0.8),
            "mobile_share": np.clip(spread([0.8, 0.1, 0.5, 0.6, 0.2, 0.4, 0.05, 0.9], 0.03), 0, 1),
            "spend_eur": np.abs(spread([12, 30, 15, 45, 22, 60, 8, 18], 1.5)),
            "has_family_plan": rng.random(n_rows) < np.array([0.1, 0.8, 0.1, 0.05, 0.6, 0.7, 0.2, 0.1])[group],
        }
    )


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> engine.Run:
    settings = FitConfig.merge({}, skip=["map", "report"], explain={"domain": "customers"})
    out = tmp_path_factory.mktemp("pictures") / "run"
    run = engine.fit(eight_groups(), out=out, id="who", n_clusters=8, config=settings)
    labels = run.assignments["cluster"].to_numpy()[::2]
    xy = np.random.default_rng(0).normal(size=(2, len(labels))) + 6 * np.stack([labels % 3, labels // 3])
    pq.write_table(pa.table({"cluster": labels, "map_x": xy[0], "map_y": xy[1]}), run.path / "map.parquet")
    run.report()
    return run


def take_picture(browser: Any, run: engine.Run, view: str, css: str = "") -> PIL.Image.Image:
    """Return the picture of a view of the report, with `css` added to its style."""
    font = PIL.ImageFont.load_default(size=16)
    context = browser.new_context(**VIEWS[view], offline=True, reduced_motion="reduce")
    page = context.new_page()
    page.add_init_script(SAME_FONT.format(font=base64.b64encode(font.font_bytes).decode(), css=css))
    if view == "print":
        page.emulate_media(media="print")
    page.goto((run.path / "report.html").resolve().as_uri())
    page.wait_for_selector("html[data-complete]", timeout=30_000)
    if view in ANCHORS:
        page.evaluate("id => document.getElementById(id).scrollIntoView({ behavior: 'instant' })", ANCHORS[view])
    screenshot = PIL.Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    context.close()
    width, height = screenshot.size
    return screenshot.resize((width // SCALE, height // SCALE), PIL.Image.Resampling.BOX)


def share_that_differs(one: PIL.Image.Image, other: PIL.Image.Image) -> float:
    """Return the share of the pixels that differ, after a blur; all of them if the sizes do."""
    if one.size != other.size:
        return 1.0
    blur = PIL.ImageFilter.GaussianBlur(1.5)
    first, second = (np.asarray(picture.filter(blur), np.int16) for picture in (one, other))
    return float((np.abs(first - second).max(axis=2) > DIFFERENT).mean())


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_looks_as_it_did(browser: Any, pictured: engine.Run, view: str, tmp_path: Path) -> None:
    picture, path = take_picture(browser, pictured, view), PICTURES / f"{view}.png"
    if os.environ.get("ROOMS_WRITE_PICTURES"):
        picture.save(path, optimize=True)
    differs = share_that_differs(picture, PIL.Image.open(path).convert("RGB"))
    if differs > TOLERANCE:
        picture.save(tmp_path / f"{view}.png")
        pytest.fail(
            f"{differs:.1%} of {path} differ from {tmp_path / view}.png. If it is meant: see the head of this file"
        )


# What other versions and machines do to letters and lines.
HARMLESS = {
    "other smoothing": "* { text-rendering: geometricPrecision; -webkit-font-smoothing: antialiased; }",
    "a little bolder": "* { -webkit-text-stroke: 0.15px currentcolor; }",
    "a pixel lower": "main { position: relative; top: 1px; }",
    "another radius": ".entry, .card, .trait { border-radius: 6px; }",
}
# What breaks a layout: each has to be noticed in the view named.
BREAKS = {
    "the list is below the map": ("desktop", ".stage { display: block; }"),
    "the map is flat": ("desktop", "#chart-map { height: 200px !important; }"),
    "no traits": ("phone", ".traits { display: none; }"),
    "a list that is cut": ("desktop", ".ranking { width: 60%; }"),
    "dark text on dark": ("dark", ".entry { color: #1d2128; }"),
    "a light page in the dark": ("dark", "body { background: white; }"),
    "the header is printed": ("print", "header { display: block !important; }"),
    "cards in one column": ("cards", ".cards { display: block; }"),
    "no bars": ("cards", ".profile svg { visibility: hidden; }"),
    "names that overlap": ("features", "#feature-table thead th { white-space: nowrap; max-width: 0; }"),
    "no colors of cells": ("features", "#feature-table td { background: none !important; }"),
    "names scrolled away": ("features-phone", "#feature-table tbody th { display: none; }"),
}


@pytest.mark.parametrize("change", HARMLESS)
def test_how_letters_are_drawn_is_no_difference(browser: Any, pictured: engine.Run, change: str) -> None:
    for view in ("desktop", "phone", "cards"):
        changed = take_picture(browser, pictured, view, HARMLESS[change])
        assert share_that_differs(changed, PIL.Image.open(PICTURES / f"{view}.png").convert("RGB")) <= TOLERANCE, view


@pytest.mark.parametrize("change", BREAKS)
def test_a_broken_layout_is_noticed(browser: Any, pictured: engine.Run, change: str) -> None:
    view, css = BREAKS[change]
    broken = take_picture(browser, pictured, view, css)
    assert share_that_differs(broken, PIL.Image.open(PICTURES / f"{view}.png").convert("RGB")) > 2 * TOLERANCE


def test_the_pictures_are_small_and_all_used() -> None:
    paths = list(PICTURES.glob("*.png"))
    assert {path.stem for path in paths} == set(VIEWS)
    assert sum(path.stat().st_size for path in paths) < 300_000

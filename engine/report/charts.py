"""Charts of a run as plotly figures: plain dictionaries of data and layout, without colours of the page.

    tables of a run  ->  {"data": [...], "layout": {...}}

Plain, because a fit that writes a report need not import plotly for it: the page brings plotly.js along, and notebooks
get real figures from `figure`. Texts of a table go through `plotly_text`, for plotly reads some HTML in its labels.
The page's script sets the colours of text and grid, light or dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.report.palette import palette
from engine.utils.formatting import clean, people, percent

Figure = dict[str, Any]
MAP_POINTS = 6000  # drawn as SVG in well under a second; more would hide each other
LEAST_POINTS = 20  # of a cluster, or all it has
LONGEST_LABEL = 34  # characters of a name beside an axis
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#8a8f98"
_MARGIN = {"l": 56, "r": 16, "t": 16, "b": 44}


def plotly_text(text: str) -> str:
    """Return text that plotly shows as it is."""
    return clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def map_chart(
    x: NDArray[np.floating[Any]], y: NDArray[np.floating[Any]], cluster: NDArray[np.int64], names: Sequence[str],
    sizes: Sequence[int],
) -> Figure:  # fmt: skip
    """Return the map: one trace a cluster, so that a click can isolate it.

    Parameters
    ----------
    x, y : arrays of shape (n_points,)
    cluster : int array of shape (n_points,)
    names, sizes : of the clusters
    """
    colours, total = palette(len(names)), max(sum(sizes), 1)
    step = max(1, math.ceil(len(x) / MAP_POINTS))
    data = []
    for c, name in enumerate(names):
        mine = np.flatnonzero(cluster == c)
        few = mine[:: min(step, max(1, len(mine) // LEAST_POINTS))]
        said = f"<b>{plotly_text(name)}</b><br>{people(sizes[c])}, {percent(sizes[c] / total)}<extra></extra>"
        marker = {"size": 5, "color": colours[c], "opacity": 0.75, "line": {"width": 0}}
        data.append(
            {"type": "scatter", "mode": "markers", "name": plotly_text(name), "x": _rounded(x[few]),
             "y": _rounded(y[few]), "marker": marker, "hovertemplate": said}
        )  # fmt: skip
    nothing = {"visible": False, "showgrid": False, "zeroline": False}
    square = {"scaleanchor": "x", "scaleratio": 1}
    layout = {"showlegend": False, "hovermode": "closest", "xaxis": nothing, "yaxis": {**nothing, **square},
              "margin": {"l": 0, "r": 0, "t": 0, "b": 0}, "dragmode": "pan"}  # fmt: skip
    return {"data": data, "layout": layout}


def sizes_chart(names: Sequence[str], sizes: Sequence[int]) -> Figure:
    """Return how many people are in each cluster, the largest on top."""
    order = sorted(range(len(sizes)), key=lambda c: sizes[c])
    colours, total = palette(len(sizes)), max(sum(sizes), 1)
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": [sizes[c] for c in order],
        "y": labels([names[c] for c in order]),
        "marker": {"color": [colours[c] for c in order]},
        "text": [percent(sizes[c] / total) for c in order],
        "textposition": "outside",
        "cliponaxis": False,
        "customdata": [plotly_text(names[c]) for c in order],
        "hovertemplate": "<b>%{customdata}</b><br>%{x:,} people, %{text}<extra></extra>",
    }
    layout = {
        "height": 60 + 26 * len(sizes),
        "margin": {**_MARGIN, "l": 8, "r": 64},
        "xaxis": {"title": {"text": "people"}, "rangemode": "tozero", "separatethousands": True, "nticks": 5},
        "yaxis": {"automargin": True},
        "bargap": 0.25,
    }
    return {"data": [bars], "layout": layout}


def elbow_chart(elbow: dict[str, list[Any]]) -> Figure:
    """Return inertia and the three scores over k, with the chosen k marked in each."""
    panels = (
        ("inertia", "Inertia (lower is closer)"),
        ("silhouette", "Silhouette (higher is better)"),
        ("calinski_harabasz", "Calinski-Harabasz (higher is better)"),
        ("davies_bouldin", "Davies-Bouldin (lower is better)"),
    )
    chosen = next((k for k, is_it in zip(elbow["k"], elbow["chosen"], strict=True) if is_it), None)
    data: list[Figure] = []
    layout: Figure = {"height": 460, "margin": {**_MARGIN, "t": 36}, "showlegend": False, "annotations": []}
    for number, (name, title) in enumerate(panels, 1):
        suffix = "" if number == 1 else str(number)
        values = [None if v is None or not math.isfinite(v) else v for v in elbow[name]]
        colours = [ORANGE if k == chosen else BLUE for k in elbow["k"]]
        data.append(
            {"type": "scatter", "mode": "lines+markers", "x": elbow["k"], "y": values, "xaxis": f"x{suffix}",
             "yaxis": f"y{suffix}", "line": {"color": BLUE, "width": 2}, "name": title,
             "marker": {"color": colours, "size": [13 if k == chosen else 6 for k in elbow["k"]]},
             "hovertemplate": "k = %{x}: %{y:.4~g}<extra></extra>"}
        )  # fmt: skip
        left, bottom = 0.54 * ((number - 1) % 2), 0.58 * (number <= 2)
        layout[f"xaxis{suffix}"] = {"domain": [left, left + 0.46], "anchor": f"y{suffix}", "nticks": 8,
                                    "title": {"text": "k", "standoff": 4}}  # fmt: skip
        layout[f"yaxis{suffix}"] = {"domain": [bottom, bottom + 0.42], "anchor": f"x{suffix}", "nticks": 5,
                                    "tickformat": "~s"}  # fmt: skip
        layout["annotations"].append(
            {"text": title, "x": left, "y": bottom + 0.42, "xref": "paper", "yref": "paper", "xanchor": "left",
             "yanchor": "bottom", "showarrow": False}
        )  # fmt: skip
    return {"data": data, "layout": layout}


def variance_chart(ratios: Sequence[float]) -> Figure:
    """Return the share of variance that each component explains, and how they add up."""
    numbers = list(range(1, len(ratios) + 1))
    together = np.cumsum(ratios)
    bars = {"type": "bar", "x": numbers, "y": _rounded(np.asarray(ratios), 5), "marker": {"color": BLUE},
            "name": "each", "hovertemplate": "component %{x}: %{y:.1%}<extra></extra>"}  # fmt: skip
    line = {"type": "scatter", "mode": "lines+markers", "x": numbers, "y": _rounded(together, 5), "name": "together",
            "line": {"color": ORANGE}, "marker": {"size": 5},
            "hovertemplate": "the first %{x}: %{y:.1%}<extra></extra>"}  # fmt: skip
    layout = {
        "height": 320,
        "margin": _MARGIN,
        "legend": {"orientation": "h", "y": 1.12, "x": 0},
        "xaxis": {"title": {"text": "component"}, "nticks": 10},
        "yaxis": {"tickformat": ".0%", "rangemode": "tozero"},
    }
    return {"data": [bars, line], "layout": layout}


def heat_chart(features: Sequence[str], rows: Sequence[Sequence[float | None]], names: Sequence[str]) -> Figure:
    """Return clusters against features: how many standard deviations a cluster lies above or below everybody."""
    heat = {
        "type": "heatmap",
        "x": labels(features),
        "y": labels(names),
        "z": [list(row) for row in rows],
        "zmin": -2,
        "zmid": 0,
        "zmax": 2,
        "xgap": 1,
        "ygap": 1,
        "hoverongaps": False,
        "customdata": [[plotly_text(feature) for feature in features] for _ in names],
        "hovertemplate": "<b>%{y}</b><br>%{customdata}: %{z:.2f} standard deviations<extra></extra>",
        "colorbar": {"title": {"text": "standard<br>deviations"}, "thickness": 12, "lenmode": "pixels", "len": 190,
                     "yanchor": "top", "y": 1,
                     "tickvals": [-2, -1, 0, 1, 2], "ticktext": ["≤ −2", "−1", "0", "1", "≥ 2"]},
    }  # fmt: skip
    layout = {
        "height": 190 + 22 * len(names),
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "xaxis": {"automargin": True, "tickangle": -50, "showgrid": False, "constrain": "domain"},
        "yaxis": {"automargin": True, "autorange": "reversed", "showgrid": False},
    }
    return {"data": [heat], "layout": layout}


def labels(names: Sequence[str]) -> list[str]:
    """Return names short enough for an axis, and all different: equal ones would fall together."""
    short: list[str] = []
    for name in names:
        text = clean(name)
        text = text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 1].rstrip() + "…"
        shown, number = plotly_text(text), 1
        while shown in short:
            number += 1
            shown = f"{plotly_text(text)} ({number})"
        short.append(shown)
    return short


def figure(chart: Figure) -> Any:
    """Return a chart as plotly's own figure, for notebooks."""
    from plotly.graph_objects import Figure as PlotlyFigure

    return PlotlyFigure(chart)


def _rounded(values: NDArray[np.floating[Any]], digits: int = 3) -> list[float]:
    return [round(float(v), digits) for v in values]

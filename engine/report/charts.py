"""Build the charts of a run as plotly figures in plain dictionaries of data and layout.

    tables of a run  ->  {"data": [...], "layout": {...}}

Dictionaries, so that a fit that writes a report need not import plotly: the page contains plotly.js, and notebooks get
plotly's figures from `to_plotly_figure`. Texts from a table go through `plotly_text`, because plotly interprets some
HTML in its labels. The page's script sets the colors of text and grid, light or dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.report.palette import palette
from engine.utils.domain_words import DEFAULT_WORDS, DomainWords
from engine.utils.formatting import format_percent, printable_text

Chart = dict[str, Any]
MAP_POINTS = 6000  # points on the map: drawn as SVG in well under a second; more would hide each other
MIN_CLUSTER_POINTS = 20  # points drawn of each cluster, or all if it has fewer
MIN_FLOW = 11  # people of a flow that is drawn
MAX_LABEL_LENGTH = 34  # characters of an axis label
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#8a8f98"
_MARGIN = {"l": 56, "r": 16, "t": 16, "b": 44}


def plotly_text(text: str) -> str:
    """Return text escaped for plotly, which then shows it unchanged."""
    return printable_text(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def map_chart(
    x: NDArray[np.floating[Any]], y: NDArray[np.floating[Any]], cluster: NDArray[np.int64], names: Sequence[str],
    sizes: Sequence[int], numbers: Sequence[int], words: DomainWords = DEFAULT_WORDS,
) -> Chart:  # fmt: skip
    """Return the scatter plot of the map: one trace per cluster, so that a click can isolate it.

    Parameters
    ----------
    x, y : arrays of shape (n_points,)
        Coordinates on the map. About MAP_POINTS of the points are drawn.
    cluster : int array of shape (n_points,)
        Number of each point's cluster.
    names, sizes, numbers : sequences of length n_clusters
    words : DomainWords, optional
        What the points are called.
    """
    colors, total = palette(numbers), max(sum(sizes), 1)
    step = max(1, math.ceil(len(x) / MAP_POINTS))
    data = []
    for c, name in enumerate(names):
        members = np.flatnonzero(cluster == numbers[c])
        drawn = members[:: min(step, max(1, len(members) // MIN_CLUSTER_POINTS))]
        size = f"{words.count(sizes[c])}, {format_percent(sizes[c] / total)}"
        hover = f"<b>{plotly_text(name)}</b><br>{size}<extra></extra>"
        marker = {"size": 5, "color": colors[c], "opacity": 0.75, "line": {"width": 0}}
        data.append(
            {"type": "scatter", "mode": "markers", "name": plotly_text(name), "meta": numbers[c],
             "x": _round_values(x[drawn]), "y": _round_values(y[drawn]), "marker": marker, "hovertemplate": hover}
        )  # fmt: skip
    hidden_axis = {"visible": False, "showgrid": False, "zeroline": False}
    equal_scale = {"scaleanchor": "x", "scaleratio": 1}
    layout = {
        "showlegend": False,
        "hovermode": "closest",
        "xaxis": hidden_axis,
        "yaxis": {**hidden_axis, **equal_scale},
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "dragmode": "pan",
    }
    return {"data": data, "layout": layout}


def elbow_chart(elbow: dict[str, list[Any]]) -> Chart:
    """Return line charts over k, of inertia and the other measures, with the chosen k marked in each."""
    panels = (
        ("inertia", "Inertia (lower is closer)"),
        ("silhouette", "Silhouette (higher is better)"),
        ("calinski_harabasz", "Calinski-Harabasz (higher is better)"),
        ("davies_bouldin", "Davies-Bouldin (lower is better)"),
        ("stability", "Stability (higher is better)"),
    )
    chosen = next((k for k, is_chosen in zip(elbow["k"], elbow["chosen"], strict=True) if is_chosen), None)
    data: list[Chart] = []
    layout, narrow = _elbow_layout(elbow, panels, n_columns=2), _elbow_layout(elbow, panels, n_columns=1)
    for number, (name, title) in enumerate(panels, 1):
        suffix = "" if number == 1 else str(number)
        values = [None if v is None or not math.isfinite(v) else v for v in elbow[name]]
        colors = [ORANGE if k == chosen else BLUE for k in elbow["k"]]
        data.append(
            {"type": "scatter", "mode": "lines+markers", "x": elbow["k"], "y": values, "xaxis": f"x{suffix}",
             "yaxis": f"y{suffix}", "line": {"color": BLUE, "width": 2}, "name": title,
             "marker": {"color": colors, "size": [13 if k == chosen else 6 for k in elbow["k"]]},
             "hovertemplate": "k = %{x}: %{y:.4~g}<extra></extra>"}
        )  # fmt: skip
    return {"data": data, "layout": layout, "narrow": narrow}


def _elbow_layout(elbow: dict[str, list[Any]], panels: Sequence[tuple[str, str]], n_columns: int) -> Chart:
    """Return the layout of the panels over k, in one column for narrow screens or in two."""
    n_lines = -(-len(panels) // n_columns)
    height = 230 * n_lines
    layout: Chart = {"height": height, "margin": {**_MARGIN, "t": 36}, "showlegend": False, "annotations": []}
    for number, (name, title) in enumerate(panels):
        suffix = "" if number == 0 else str(number + 1)
        line, column = divmod(number, n_columns)
        left, width = (0.54 * column, 0.46) if n_columns == 2 else (0.0, 1.0)
        bottom, top = (n_lines - 1 - line) / n_lines, (n_lines - line - 0.32) / n_lines
        large = max((abs(v) for v in elbow[name] if v is not None and math.isfinite(v)), default=0.0) >= 1000
        layout[f"xaxis{suffix}"] = {"domain": [left, left + width], "anchor": f"y{suffix}", "nticks": 8,
                                    "title": {"text": "k", "standoff": 4}}  # fmt: skip
        layout[f"yaxis{suffix}"] = {"domain": [bottom, top], "anchor": f"x{suffix}", "nticks": 5,
                                    "tickformat": "~s" if large else ",.3~g"}  # fmt: skip
        layout["annotations"].append(
            {"text": title, "x": left, "y": top, "xref": "paper", "yref": "paper", "xanchor": "left",
             "yanchor": "bottom", "showarrow": False}
        )  # fmt: skip
    return layout


def variance_chart(ratios: Sequence[float]) -> Chart:
    """Return the explained variance ratio of each component as bars, and their cumulative sum as a line."""
    numbers = list(range(1, len(ratios) + 1))
    cumulative = np.cumsum(ratios)
    bars = {"type": "bar", "x": numbers, "y": _round_values(np.asarray(ratios), 5), "marker": {"color": BLUE},
            "name": "each", "hovertemplate": "component %{x}: %{y:.1%}<extra></extra>"}  # fmt: skip
    line = {"type": "scatter", "mode": "lines+markers", "x": numbers, "y": _round_values(cumulative, 5),
            "name": "together", "line": {"color": ORANGE}, "marker": {"size": 5},
            "hovertemplate": "the first %{x}: %{y:.1%}<extra></extra>"}  # fmt: skip
    layout = {
        "height": 320,
        "margin": _MARGIN,
        "legend": {"orientation": "h", "y": 1.12, "x": 0},
        "xaxis": {"title": {"text": "component"}, "nticks": 10},
        "yaxis": {"tickformat": ".0%", "rangemode": "tozero"},
    }
    return {"data": [bars, line], "layout": layout}


def box_chart(boxes: Sequence[Sequence[float | None] | None], names: Sequence[str], numbers: Sequence[int]) -> Chart:
    """Return box plots of one number, a box a cluster: whiskers at 5 and 95 %, box at 25 and 75 %, and the median.

    Quantiles that too few people are behind are None: the box is then drawn as far as it is known.
    """
    colors, labels = palette(numbers), axis_labels(names)
    data = []
    for box, label, color, number in zip(boxes, labels, colors, numbers, strict=True):
        if box is None:
            continue
        low, first, median, third, high = box
        first, third = (median if q is None else q for q in (first, third))
        data.append(
            {"type": "box", "orientation": "h", "y": [label], "q1": [first], "median": [median], "q3": [third],
             "lowerfence": [first if low is None else low], "upperfence": [third if high is None else high],
             "name": label, "meta": number, "marker": {"color": color}, "line": {"width": 1.5}, "hoverinfo": "x+name"}
        )  # fmt: skip
    layout = {
        "height": 70 + 30 * len(data),
        "margin": {**_MARGIN, "l": 8, "t": 8},
        "showlegend": False,
        "xaxis": {"nticks": 6, "tickformat": ",.3~g"},
        "yaxis": {"automargin": True, "autorange": "reversed"},
    }
    return {"data": data, "layout": layout}


def moves_chart(changes: dict[str, Any], words: DomainWords = DEFAULT_WORDS) -> Chart:
    """Return a Sankey diagram of the rows in two runs: old clusters on the left, new ones on the right.

    `changes` are the facts of a ComparisonSummary. Flows of fewer than MIN_FLOW people are not drawn.
    """
    old, new = changes["old_clusters"], changes["new_clusters"]
    colors = [palette(cluster["cluster"] for cluster in side) for side in (old, new)]
    links = [
        (i, len(old) + j, count, colors[0][i])
        for i, row in enumerate(changes["moves"])
        for j, count in enumerate(row)
        if count >= MIN_FLOW
    ]
    source, target, value, color = (list(part) for part in zip(*links, strict=True)) if links else ([], [], [], [])
    sankey = {
        "type": "sankey",
        "node": {
            "label": [label for side in (old, new) for label in axis_labels([cluster["name"] for cluster in side])],
            "color": [*colors[0], *colors[1]],
            "pad": 14,
            "thickness": 14,
            "line": {"width": 0},
            "hovertemplate": f"<b>%{{label}}</b><br>%{{value:,}} {words.plural}<extra></extra>",
        },
        "link": {
            "source": source, "target": target, "value": value, "color": [f"{c}66" for c in color],
            "hovertemplate": f"%{{source.label}} → %{{target.label}}<br>%{{value:,}} {words.plural}<extra></extra>",
        },
    }  # fmt: skip
    return {"data": [sankey], "layout": {"height": 120 + 34 * max(len(old), len(new)), "margin": {**_MARGIN, "l": 8}}}


def history_chart(lineage: dict[str, Any], words: DomainWords = DEFAULT_WORDS) -> Chart:
    """Return a line of sizes over the nights for each cluster's number, with marks of births, splits and deaths.

    `lineage` is the content of lineage.json.
    """
    nights = [night["night"] for night in lineage["nights"]]
    sizes = {night["night"]: {int(n): size for n, size in night["sizes"].items()} for night in lineage["nights"]}
    data: list[Chart] = []
    for cluster in lineage["clusters"]:
        number, born, died = cluster["number"], cluster["born"], cluster["died"]
        color, name = palette([number])[0], cluster["names"][-1][1] if cluster["names"] else f"Cluster {number}"
        lived = [night for night in nights if number in sizes[night]]
        values = [sizes[night][number] for night in lived]
        hover = f"<b>{number} {plotly_text(name)}</b><br>night %{{x}}: %{{y:,}} {words.plural}<extra></extra>"
        data.append(
            {"type": "scatter", "mode": "lines", "name": plotly_text(name), "meta": number, "x": lived, "y": values,
             "line": {"color": color, "width": 2}, "hovertemplate": hover}
        )  # fmt: skip
        if born > nights[0] and lived:
            parents = cluster["parents"]
            what = f"split off {', '.join(map(str, parents))}" if parents else "born"
            data.append(_event(number, color, lived[0], values[0], what, "diamond" if parents else "triangle-up"))
        if died is not None and lived:
            data.append(_event(number, color, lived[-1], values[-1], f"gone since night {died}", "x"))
    layout = {
        "height": 360, "margin": _MARGIN, "showlegend": False, "hovermode": "closest",
        "xaxis": {"title": {"text": "Night"}, "dtick": max(1, len(nights) // 10)},
        "yaxis": {"title": {"text": words.plural.capitalize()}, "rangemode": "tozero"},
    }  # fmt: skip
    return {"data": data, "layout": layout}


def _event(number: int, color: str, night: int, size: int, what: str, symbol: str) -> Chart:
    """Return the mark of what happened to a cluster."""
    return {
        "type": "scatter", "mode": "markers", "meta": number, "x": [night], "y": [size],
        "marker": {"symbol": symbol, "size": 11, "color": color, "line": {"width": 1, "color": GREY}},
        "hovertemplate": f"<b>{number}</b> {what}<extra></extra>",
    }  # fmt: skip


def axis_labels(names: Sequence[str]) -> list[str]:
    """Return the names shortened for an axis and all different: plotly would merge equal labels."""
    labels: list[str] = []
    for name in names:
        text = printable_text(name)
        text = text if len(text) <= MAX_LABEL_LENGTH else text[: MAX_LABEL_LENGTH - 1].rstrip() + "…"
        label, number = plotly_text(text), 1
        while label in labels:
            number += 1
            label = f"{plotly_text(text)} ({number})"
        labels.append(label)
    return labels


def to_plotly_figure(chart: Chart) -> Any:
    """Return a chart as a `plotly.graph_objects.Figure`, for notebooks."""
    from plotly.graph_objects import Figure

    return Figure({name: chart[name] for name in ("data", "layout")})


def _round_values(values: NDArray[np.floating[Any]], digits: int = 3) -> list[float]:
    return [round(float(v), digits) for v in values]

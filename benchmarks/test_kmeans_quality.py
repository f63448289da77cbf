"""K-Means as it is installed: inertia against seconds, and how the time grows with rows and clusters.

Every point is one whole fit with default settings, but for the number of iterations of ours; inertia is computed anew
in float64. `docs/kmeans.png` shows what it has found.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.cluster
from kmeans_cases import IMPLEMENTATIONS, exact_inertia, ours, rows, timed, write

import engine

PLOT = Path(__file__).parents[1] / "docs" / "kmeans.png"
CASES = {"B": (1_000_000, 32, 100), "D": (200_000, 64, 1000)}
ITERATIONS = (1, 2, 3, 5, 10, 20, 300)
GROWING_ROWS = (250_000, 500_000, 1_000_000, 2_000_000, 4_000_000)  # x 32, k = 100
GROWING_CLUSTERS = (20, 50, 100, 200, 500, 1000, 2000)  # of 200,000 x 64
report: dict[str, Any] = {}


def faiss_default(X: Any, k: int) -> Any:
    import faiss

    model = faiss.Kmeans(X.shape[1], k)
    model.train(X)
    return model.centroids


def super_kmeans(**settings: Any) -> Callable[[Any, int], Any]:
    def fit(X: Any, k: int) -> Any:
        from superkmeans import SuperKMeans

        return SuperKMeans(k, X.shape[1], **settings).train(X)

    return fit


DEFAULTS: dict[str, Callable[[Any, int], Any]] = {
    "scikit-learn": lambda X, k: sklearn.cluster.KMeans(k, random_state=0).fit(X).cluster_centers_,
    "MiniBatchKMeans": lambda X, k: sklearn.cluster.MiniBatchKMeans(k, random_state=0).fit(X).cluster_centers_,
    "faiss": faiss_default,
    "SuperKMeans": super_kmeans(),
    "SuperKMeans, flat": super_kmeans(hierarchical=False),
}


@pytest.mark.parametrize("case", CASES)
def test_time_to_quality(benchmark: Any, case: str) -> None:
    n_rows, n_features, k = CASES[case]
    X = rows("mixture", n_rows, n_features, k)
    points: dict[str, list[dict[str, Any]]] = {"engine": []}

    def in_turn() -> None:
        for max_iter in ITERATIONS:
            model = engine.KMeans(k, max_iter=max_iter, random_state=0)
            found = point(X, lambda model=model: model.fit(X).cluster_centers_)
            points["engine"].append({"max_iter": max_iter, **found})
        for name, fit in DEFAULTS.items():
            points[name] = [point(X, lambda fit=fit: fit(X, k))]

    ours(X[:20_000], X[:k].copy(), 2, 0.0)  # kernels are compiled outside the clock
    benchmark.pedantic(in_turn, rounds=1)
    unmatched = [name for name in DEFAULTS if not any(no_worse(one, points[name][0]) for one in points["engine"])]
    report[f"quality {case}"] = {"shape": CASES[case], "points": points, "peers_not_matched": unmatched}


def no_worse(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return bool(one["seconds"] <= other["seconds"] and one["inertia"] <= other["inertia"])


def point(X: Any, fit: Callable[[], Any]) -> dict[str, Any]:
    seconds, centres, _ = timed(lambda: (fit(), 0), 2)
    return {"seconds": min(seconds), "inertia": exact_inertia(X, centres)}


def test_growth_with_rows(benchmark: Any) -> None:
    X = rows("mixture", GROWING_ROWS[-1], 32, 100)
    benchmark.pedantic(lambda: grown("rows", [(X[:n], 100) for n in GROWING_ROWS]), rounds=1)


def test_growth_with_clusters(benchmark: Any) -> None:
    X = rows("mixture", 200_000, 64, 1000)
    benchmark.pedantic(lambda: grown("clusters", [(X, k) for k in GROWING_CLUSTERS]), rounds=1)


def grown(what: str, cases: list[tuple[Any, int]]) -> None:
    """Note the seconds of 20 iterations from the same centres, ours and scikit-learn's."""
    found: list[dict[str, Any]] = []
    ours(cases[0][0][:20_000], cases[0][0][:20].copy(), 2, 0.0)
    for X, k in cases:
        init = X[np.random.default_rng(1).choice(len(X), k, replace=False)].copy()
        one: dict[str, Any] = {"rows": len(X), "clusters": k}
        for name in ("engine", "scikit-learn lloyd"):
            one[name] = min(timed(partial(IMPLEMENTATIONS[name], X, init, 20, 0.0), 2)[0])
        found.append(one)
    report[f"growth with {what}"] = found


@pytest.fixture(scope="module", autouse=True)
def written() -> Any:
    yield
    if report:
        write(report)
        draw(report)


def draw(cases: dict[str, Any]) -> None:
    """Draw what this run has measured."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    panels = figure.subplots(1, len(cases))
    for axes, (name, case) in zip(np.atleast_1d(panels), cases.items(), strict=True):
        if name.startswith("quality"):
            _draw_quality(axes, case)
        else:
            what = name.removeprefix("growth with ")
            for peer, style in (("engine", "o-"), ("scikit-learn lloyd", "s--")):
                axes.plot([one[what] for one in case], [one[peer] for one in case], style, label=peer)
            axes.set(xscale="log", yscale="log", xlabel=what, ylabel="seconds, 20 iterations")
            axes.set_title(name, fontsize=9)
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.savefig(PLOT, dpi=110)


def _draw_quality(axes: Any, case: dict[str, Any]) -> None:
    least = min(one["inertia"] for points in case["points"].values() for one in points)
    for name, points in case["points"].items():
        seconds, excess = [one["seconds"] for one in points], [100 * (one["inertia"] / least - 1) for one in points]
        axes.plot(seconds, excess, "o-" if name == "engine" else "s", label=name)
    n_rows, n_features, k = case["shape"]
    axes.set(xscale="log", xlabel="seconds", ylabel="inertia above the least, %")
    axes.set_title(f"{n_rows:,} x {n_features}, k = {k}", fontsize=9)

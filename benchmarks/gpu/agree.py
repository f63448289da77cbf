"""Do the GPU and the CPU find the same? K-Means to the bit, axes to 1e-6, tables, and labels of a whole fit.

The engine encodes features on the CPU, whatever the device: what is compared of tables is what cuDF reads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from common import Mixture, Section, Setting, gpu

from engine import PCA
from engine.backends.cpu import CpuBackend
from engine.clustering import best_clustering
from engine.config import FitConfig
from engine.lloyd import RowSet
from engine.pipeline import fit
from engine.tables.cudf import read_matrix
from engine.tables.demo import write_demo

AXES, LABELS = 1e-6, 0.9999
NUMBERS = ("weekly_hours", "completion_rate", "price_paid", "mean_rating", "days_since_last_watch")  # some are missing


def run(section: Section, setting: Setting) -> None:
    n_rows, k = setting.pick((1_000_000, 100), (3000, 7))
    X = Mixture(n_rows).upto(n_rows)
    weights = np.random.default_rng(2).uniform(0.1, 3.0, n_rows)
    section.case("k-means", lambda: kmeans(X, k))
    section.case("k-means, weighted", lambda: kmeans(X, k, weights))
    section.case("k-means, many ties", lambda: kmeans(np.rint(X[:, :4]), k))
    section.case("k-means, 1000 clusters", lambda: kmeans(X[: n_rows // 4], setting.pick(1000, 50)))
    section.case("pca", lambda: pca(X))
    members = write_demo(setting.folder / "agree", setting.pick(1_000_000, 2000)).members
    section.case("table", lambda: table(members))
    section.case("whole fit", lambda: fits(members, setting))


def passed(cases: dict[str, Any]) -> bool:
    """Return whether every comparison was made and came out as it should."""
    verdicts = [facts.get("passed", False) for name, facts in cases.items() if name != "section"]
    return bool(verdicts) and all(verdicts) and "error" not in cases.get("section", {})


def kmeans(X: Any, k: int, weights: Any = None) -> dict[str, Any]:
    here, there = (
        best_clustering(RowSet.of(X, weights, backend), k, max_iter=20, random=np.random.RandomState(0))
        for backend in (CpuBackend(), gpu())
    )
    facts = {
        "shape": [*X.shape, k],
        "other_labels": int((here.labels != there.labels).sum()),
        "other_values_of_centres": int((here.centres != there.centres).sum()),
        "inertia": [here.inertia, there.inertia],
        "iterations": [here.n_iter, there.n_iter],
        "rows_opened": [here.work.opened, there.work.opened],
        "rows_defined": [here.work.defined, there.work.defined],
    }
    same = here.inertia == there.inertia and here.n_iter == there.n_iter
    return facts | {"passed": same and not facts["other_labels"] and not facts["other_values_of_centres"]}


def pca(X: Any) -> dict[str, Any]:
    here, there = (PCA(16, device=device).fit(X) for device in ("cpu", "cuda"))
    axes = float(np.abs(here.components_ - there.components_).max())
    variances = float(np.abs(there.explained_variance_ / here.explained_variance_ - 1).max())
    return {"axes_differ": axes, "variances_differ": variances, "passed": max(axes, variances) <= AXES}


def table(members: Any) -> dict[str, Any]:
    """Compare what cuDF reads with what pyarrow reads, missing values at the same places."""
    read = pq.read_table(members, columns=list(NUMBERS))
    exact = np.stack([pc.cast(column, "float64").to_numpy() for column in read.columns], axis=1).astype(np.float32)
    found = read_matrix([str(members)], list(NUMBERS)).get()
    other = int((~((found == exact) | (np.isnan(found) & np.isnan(exact)))).sum())
    return {"shape": list(found.shape), "missing": int(np.isnan(exact).sum()), "other": other, "passed": other == 0}


def fits(members: Any, setting: Setting) -> dict[str, Any]:
    config = FitConfig.merged({}, skip=["map", "report", "explain"])
    labels = []
    for device in ("cpu", "cuda"):
        out = setting.folder / f"agree-{device}"
        run = fit(members, out=out, id="user_id", n_clusters=12, device=device, config=config)
        labels.append(run.assignments["cluster"].to_numpy())
    equal = float((labels[0] == labels[1]).mean())
    return {"rows": len(labels[0]), "equal_labels": equal, "passed": equal >= LABELS}

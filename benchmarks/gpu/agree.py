"""Do the GPU and the CPU find the same? K-Means and encoded rows to the bit, axes to 1e-6, labels of a whole fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from common import Mixture, Section, Setting, gpu

from engine import PCA
from engine.backends.cpu import CpuBackend
from engine.config import FitConfig
from engine.datasets.demo_table import write_demo
from engine.features.fit import choose_reader, fit_encoder
from engine.kmeans.lloyd import Samples
from engine.kmeans.restarts import best_clustering
from engine.pipeline.fit import fit
from engine.tables import open_table

AXES, LABELS = 1e-6, 0.9999


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
    section.case("features", lambda: features(members))
    section.case("whole fit", lambda: fits(members, setting))


def passed(cases: dict[str, Any]) -> bool:
    """Return whether every comparison was made and came out as it should."""
    verdicts = [facts.get("passed", False) for name, facts in cases.items() if name != "section"]
    return bool(verdicts) and all(verdicts) and "error" not in cases.get("section", {})


def kmeans(X: Any, k: int, weights: Any = None) -> dict[str, Any]:
    here, there = (
        best_clustering(Samples.from_array(X, weights, backend), k, max_iter=20, random=np.random.RandomState(0))
        for backend in (CpuBackend(), gpu())
    )
    facts = {
        "shape": [*X.shape, k],
        "other_labels": int((here.labels != there.labels).sum()),
        "other_values_of_centres": int((here.centers != there.centers).sum()),
        "inertia": [here.inertia, there.inertia],
        "iterations": [here.n_iter, there.n_iter],
        "rows_opened": [here.pass_counts.opened, there.pass_counts.opened],
        "rows_defined": [here.pass_counts.defined, there.pass_counts.defined],
    }
    same = here.inertia == there.inertia and here.n_iter == there.n_iter
    return facts | {"passed": same and not facts["other_labels"] and not facts["other_values_of_centres"]}


def pca(X: Any) -> dict[str, Any]:
    here, there = (PCA(16, device=device).fit(X) for device in ("cpu", "cuda"))
    axes = float(np.abs(here.components_ - there.components_).max())
    variances = float(np.abs(there.explained_variance_ / here.explained_variance_ - 1).max())
    return {"axes_differ": axes, "variances_differ": variances, "passed": max(axes, variances) <= AXES}


def features(members: Any) -> dict[str, Any]:
    """Compare rows that the device reads and encodes with what the CPU makes of them, array by array."""
    table = open_table(members, id="user_id")
    encoder = fit_encoder(table, id="user_id").encoder
    reader = choose_reader(gpu(), table)
    rows = reader if isinstance(reader, str) else reader.encoded_table(encoder)
    if isinstance(rows, str):
        return {"reader": rows, "passed": False}
    expected = pa.concat_tables(block.rows for block in table.blocks(encoder.columns))
    compared = other = 0
    for run in rows.map(lambda start, run: [part.get() for part in run], last=True):
        here = encoder.encode_rows(expected.slice(compared, len(run[0])))
        other += sum(not np.array_equal(mine, theirs) for mine, theirs in zip(run, here, strict=True))
        compared += len(run[0])
    return {
        "reader": rows.reader, "rows": compared, "features": encoder.n_features, "other_arrays": other,
        "passed": other == 0 and compared == table.n_rows,
    }  # fmt: skip


def fits(members: Any, setting: Setting) -> dict[str, Any]:
    config = FitConfig.merge({}, skip=["map", "report", "explain"])
    labels = []
    for device in ("cpu", "cuda"):
        out = setting.folder / f"agree-{device}"
        run = fit(members, out=out, id="user_id", n_clusters=12, device=device, config=config)
        labels.append(run.assignments["cluster"].to_numpy())
    equal = float((labels[0] == labels[1]).mean())
    return {"rows": len(labels[0]), "equal_labels": equal, "passed": equal >= LABELS}

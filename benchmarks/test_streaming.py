"""A budget of memory against none, sizes against each other, forecasts against what came, and K-Means against its peer.

Whole processes of `rooms fit`, streamed and in memory in turn; the peer is what one would use on a table larger than
memory: MiniBatchKMeans.partial_fit over batches of the same scores in the same mapped file, and dask-ml's KMeans on an
array of them as chunks, where it is installed (`pip install dask-ml`).

    ROOMS_BENCH_SIZES=1000000,5242880,10000000   sizes of the tables; others that were measured stay in the results
    ROOMS_BENCH_ROUNDS=3
    ROOMS_BENCH_LARGE=50000000                   rows of the table that is fitted once, in 2 GiB
    ROOMS_BENCH_MEMBERS=FOLDER                   where tables are kept between runs
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import history
import numpy as np
import pytest
from machine_info import describe_machine, earlier_results
from sklearn.cluster import MiniBatchKMeans

from engine import backends
from engine.datasets.demo_table import N_COMMUNITIES, write_demo
from engine.execution.array_storage import Storage
from engine.features.encoded_moments import make_projection
from engine.features.fit import fit_encoder
from engine.kmeans.lloyd import inertia, label_rows
from engine.kmeans.restarts import cluster_rows
from engine.pca.solver import Components
from engine.tables import open_table

RESULTS = Path(__file__).parent / "results" / "streaming.json"
SIZES = [int(size) for size in os.environ.get("ROOMS_BENCH_SIZES", "1000000,5242880,10000000").split(",")]
ROUNDS = int(os.environ.get("ROOMS_BENCH_ROUNDS", "3"))
LARGE = int(os.environ.get("ROOMS_BENCH_LARGE", "50000000"))
BUDGETS = {"streamed": "330MiB", "in memory": "64GiB", "in 2 GiB": "2GiB"}
LEAN = ["--skip", "explain,map,report"]
BATCH_ROWS, EPOCHS = 65_536, 8
DASK_ML_ITERATIONS = 10  # of up to 300, ten take five minutes at k = 100
CLUSTERS = (12, 100)
cpu, _ = backends.resolve("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kept = os.environ.get("ROOMS_BENCH_MEMBERS")
    return tmp_path_factory.mktemp("streaming") if kept is None else Path(kept)


def members_of(folder: Path, rows: int) -> Path:
    if not (folder / str(rows)).exists():
        write_demo(folder / str(rows), rows)
    return folder / str(rows) / "members"


def recorded() -> dict[str, Any]:
    return earlier_results(RESULTS)


def record(name: str, figures: Any) -> None:
    """Put figures into the committed result file."""
    found = recorded()
    found["machine"] = describe_machine()
    history.record(RESULTS, found | {name: figures})


def command(members: Path, *options: str) -> list[str]:
    fit = [sys.executable, "-m", "engine", "fit", str(members), "--id", "user_id", "-k", str(N_COMMUNITIES), "--json"]
    return [*fit, *options]


def measured(arguments: list[str]) -> dict[str, Any]:
    """Run a process; return its output, wall and CPU seconds, and how busy the machine was with other work."""
    start = time.perf_counter()
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, output
    return {
        "output": json.loads(output),
        "seconds": round(time.perf_counter() - start, 2),
        "cpu": round(usage.ru_utime + usage.ru_stime, 2),
        "load": round(os.getloadavg()[0], 1),
    }


def fitted(members: Path, run: Path, kind: str, *options: str) -> dict[str, Any]:
    """Fit; return figures of the process and of the plan it made."""
    found = measured(command(members, "--out", str(run), "--overwrite", "--memory", BUDGETS[kind], *options))
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["plan"]["kind"] == ("in memory" if kind == "in memory" else "streamed")
    own = max(stage["peak_own_bytes"] for stage in manifest["stages"])
    del found["output"]
    stages = {stage["stage"]: stage["seconds"] for stage in manifest["stages"]}
    return found | {"own_mib": round(own / 2**20, 1), "inertia": manifest["inertia"], "stages": stages}


def foretold(members: Path, kind: str, *options: str) -> dict[str, Any]:
    found = measured(command(members, "--memory", BUDGETS[kind], "--dry-run", *options))
    told = found.pop("output")
    memory = round(told["memory_bytes"] / 2**20, 1)
    return {"seconds": told["seconds"], "own_mib": memory, "disk_bytes": told["disk_bytes"], "took": found["seconds"]}


def best(rounds: list[dict[str, Any]], figure: str) -> float:
    return float(min(one[figure] for one in rounds))


def test_sizes(benchmark: Any, folder: Path, tmp_path: Path) -> None:
    report: dict[str, Any] = recorded().get("sizes", {})
    kinds = ("streamed", "in memory")

    def all_sizes() -> None:
        for rows in SIZES:
            members = members_of(folder, rows)
            rounds: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
            told: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
            for _ in range(ROUNDS):
                for kind in kinds:
                    told[kind].append(foretold(members, kind, *LEAN))
                    rounds[kind].append(fitted(members, tmp_path / "run", kind, *LEAN))
            report[str(rows)] = {"measured": rounds, "foretold": told, **compared(rounds, told)}
            record("sizes", report)

    fitted(members_of(folder, SIZES[0]), tmp_path / "run", "streamed", *LEAN)  # compiles kernels outside the clock
    benchmark.pedantic(all_sizes, rounds=1)
    sizes, slopes = [int(rows) for rows in report], {}
    for figure in ("seconds", "cpu", "own_mib"):
        took = [best(size["measured"]["streamed"], figure) for size in report.values()]
        slopes[figure] = round(float(np.polyfit(np.log(sizes), np.log(took), 1)[0]), 3) if len(sizes) > 1 else None
    record("slopes_of_streamed", slopes)


def test_a_large_table(benchmark: Any, folder: Path, tmp_path: Path) -> None:
    members = members_of(folder, LARGE)
    figures: dict[str, Any] = {"rows": LARGE}

    def once() -> None:
        figures["foretold"] = foretold(members, "in 2 GiB", *LEAN)
        figures["measured"] = fitted(members, tmp_path / "run", "in 2 GiB", *LEAN)

    benchmark.pedantic(once, rounds=1)
    record("in_2_gib", figures)


def compared(rounds: dict[str, list[dict[str, Any]]], told: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return the speed of a streamed fit in shares of one in memory, and forecasts in shares of what came."""
    figures: dict[str, Any] = {
        f"speed_by_{figure}": round(best(rounds["in memory"], figure) / best(rounds["streamed"], figure), 3)
        for figure in ("seconds", "cpu")
    }
    for kind in rounds:
        for figure in ("seconds", "own_mib"):
            pairs = zip(told[kind], rounds[kind], strict=True)
            figures[f"foretold_{figure}_{kind}"] = [round(a[figure] / b[figure], 3) for a, b in pairs]
    return figures


def test_with_a_map(benchmark: Any, folder: Path, tmp_path: Path) -> None:
    members = members_of(folder, SIZES[0])
    report: dict[str, Any] = {"rows": SIZES[0]}

    def both() -> None:
        for kind in ("streamed", "in memory"):
            told = foretold(members, kind)
            came = fitted(members, tmp_path / "run", kind)
            shares = {figure: round(told[figure] / came[figure], 3) for figure in ("seconds", "own_mib")}
            report[kind] = {"foretold": told, "measured": came, "foretold_share": shares}

    benchmark.pedantic(both, rounds=1)
    record("with_map", report)


@pytest.fixture(scope="module")
def scores(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Storage, np.ndarray]:
    """Return the scores of the middle size, in a mapped file."""
    table = open_table(str(members_of(folder, SIZES[len(SIZES) // 2])), id="user_id")
    features = fit_encoder(table, id="user_id")
    pca = Components.from_moments(features.rows.compute_moments(cpu, lambda _: None), "auto")
    axes = make_projection(features.encoder.layout, pca.mean_, pca.components_.T)
    storage = Storage(tmp_path_factory.mktemp("scores"))
    Z = storage.array("Z", (features.statistics.n_rows, pca.n_components_), np.float32)

    def fill(start: int, rows: Any) -> None:
        Z[start : start + len(rows.dense)] = cpu.encoded_scores(rows, axes)

    for _ in features.rows.map(fill, last=True):
        pass
    return storage, Z


def clocked(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    wall, processor = time.perf_counter(), time.process_time()
    found = work()
    return found, {
        "seconds": round(time.perf_counter() - wall, 3), "cpu": round(time.process_time() - processor, 3),
    }  # fmt: skip


@pytest.mark.parametrize("k", CLUSTERS)
def test_k_means_against_its_peers(benchmark: Any, scores: tuple[Storage, np.ndarray], k: int) -> None:
    storage, Z = scores
    report: dict[str, Any] = {"rows": len(Z), "components": Z.shape[1], "batch_rows": BATCH_ROWS}
    labels = np.empty(len(Z), np.int32)

    def inertia_of(centers: np.ndarray) -> float:
        label_rows(Z, centers, labels, cpu)
        return inertia(Z, np.empty(0), centers, labels, cpu)

    def mini_batches() -> None:
        peer = MiniBatchKMeans(n_clusters=k, random_state=0, batch_size=BATCH_ROWS)
        spent = {"seconds": 0.0, "cpu": 0.0}
        report["mini_batches"] = []
        for _ in range(EPOCHS):
            _, took = clocked(lambda: [peer.partial_fit(Z[i : i + BATCH_ROWS]) for i in range(0, len(Z), BATCH_ROWS)])
            spent = {figure: round(spent[figure] + took[figure], 3) for figure in spent}
            report["mini_batches"].append({"inertia": inertia_of(peer.cluster_centers_.astype(np.float32)), **spent})

    def dask_ml() -> None:
        try:
            import dask.array
            from dask_ml.cluster import KMeans
        except ImportError as error:
            report["dask_ml"] = {"skipped": str(error)}
            return
        rows = dask.array.from_array(Z, chunks=(BATCH_ROWS, Z.shape[1]), name=False)
        peer, took = clocked(lambda: KMeans(k, random_state=0, max_iter=DASK_ML_ITERATIONS).fit(rows))
        centers = np.asarray(peer.cluster_centers_, np.float32)
        report["dask_ml"] = {"inertia": inertia_of(centers), "iterations": int(peer.n_iter_), **took}

    def in_turn() -> None:
        found, took = clocked(lambda: cluster_rows(Z, k, cpu, seed=0, storage=storage))
        report["rooms"] = {"inertia": found.inertia, "iterations": found.n_iter, **took}
        mini_batches()
        dask_ml()

    cluster_rows(Z[:BATCH_ROWS], k, cpu, seed=0)  # compiles kernels outside the clock
    benchmark.pedantic(in_turn, rounds=1)
    report["best_of_mini_batches_over_rooms"] = round(
        min(epoch["inertia"] for epoch in report["mini_batches"]) / report["rooms"]["inertia"], 5
    )
    record(f"k_means_{k}", report)

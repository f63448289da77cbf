"""Multi-GPU K-Means of cuML on all workers of a cluster, started from a child process that has a deadline.

    scheduler, rows in a mapped file, initial centers, LibraryKMeansSettings  ->  centers, iterations

cuML's workers communicate in collectives (NCCL), in which all of them must take part: if one is lost, the others wait,
and hangs without any fault are known. A process that waits in a collective handles no signal. So a child process calls
cuML and is killed at the deadline, and the fit ends with an error that says so; the engine's own K-Means needs no
collectives. Tests check calls of the library against its recorded signatures; on a GPU it is not measured yet.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.backends.protocol import LibraryKMeansSettings
from engine.config import ClusterConfig
from engine.errors import TaskFailedError, WorkersLostError
from engine.utils.array_types import Rows
from engine.utils.signals import on_signal

MAX_REASON = 300  # characters of a failed child's last line that an error quotes


@dataclass(frozen=True)
class MultiGpuKMeans:
    """cuML's K-Means on the workers of a Dask scheduler, each of which has a GPU."""

    scheduler: str  # address of the Dask scheduler
    settings: ClusterConfig
    folder: Path  # a folder that all workers see

    def fit_centers(self, X: np.memmap[Any, Any], start: Rows | str, plan: LibraryKMeansSettings) -> tuple[Rows, int]:
        """Return the centers that cuML finds (n_clusters, n_features), and its number of iterations.

        Raises
        ------
        WorkersLostError
            If cuML has not ended after `deadline_seconds`.
        TaskFailedError
            If the child process fails.
        """
        task_path, result_path = self.folder / "collective.json", self.folder / "collective.npz"
        task = {"wanted": self.settings.model_dump(), "scheduler": self.scheduler, "rows": str(X.filename)}
        task |= {"shape": X.shape, "start": start if isinstance(start, str) else start.tolist()}
        task_path.write_text(json.dumps(task | {"plan": plan._asdict(), "found": str(result_path)}))
        result_path.unlink(missing_ok=True)
        _run_child([sys.executable, "-m", "engine.kmeans.multi_gpu", str(task_path)], self.settings.deadline_seconds)
        with np.load(result_path) as arrays:
            return np.ascontiguousarray(arrays["centres"], X.dtype), int(arrays["iterations"])


def _run_child(command: list[str], seconds: float) -> None:
    """Run a child process; after so many seconds, kill it and all processes that it has started."""
    child = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )  # fmt: skip
    try:
        with on_signal(partial(os.killpg, child.pid, signal.SIGKILL)):
            _, stderr = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise WorkersLostError(
            f"cuML's K-Means on the workers found no result in {seconds:g} s.",
            hint="start the workers anew: they may wait for ever; or use kmeans.algorithm lloyd, which does not.",
        ) from error
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
    if child.returncode != 0:
        reason = (stderr.strip().splitlines() or ["no reason given"])[-1][-MAX_REASON:]
        raise TaskFailedError(
            f"cuML's K-Means on the workers ended without centres (status {child.returncode}): {reason}",
            hint="cuml.dask needs dask-cudf and raft-dask on all machines; or use kmeans.algorithm lloyd.",
        )


def fit_task(task: dict[str, Any]) -> None:
    """Run the task of a MultiGpuKMeans and write its result: what the child process does."""
    from engine.execution.dask_client import connect_client, tls_security

    settings = ClusterConfig(**task["wanted"])
    with connect_client(task["scheduler"], tls_security(settings)) as client:
        centers, n_iter = fit_on_workers(client, task)
    np.savez(task["found"], centres=centers, iterations=n_iter)


def fit_on_workers(client: Any, task: dict[str, Any]) -> tuple[NDArray[np.float32], int]:
    """Load one shard of the rows on the GPU of each worker, run cuML's K-Means, and return centers and iterations."""
    import cupy
    from cuml.dask.cluster import KMeans
    from dask import array, delayed

    n_rows, n_columns = task["shape"]
    workers = sorted(client.nthreads())
    edges = np.linspace(0, n_rows, len(workers) + 1).astype(int).tolist()
    shards = []
    for worker, first, last in zip(workers, edges[:-1], edges[1:], strict=True):
        rows = delayed(_load_rows_on_gpu)(task["rows"], first, last, n_columns)
        meta = cupy.empty((0, n_columns), np.float32)
        shard = array.from_delayed(rows, (last - first, n_columns), np.float32, meta=meta)
        shards.append(client.persist(shard, workers=[worker]))
    settings, start = LibraryKMeansSettings(**task["plan"]), task["start"]
    model = KMeans(
        client=client, n_clusters=settings.n_clusters, n_init=settings.n_init, max_iter=settings.max_iter,
        tol=settings.tol, random_state=settings.seed,
        init=start if isinstance(start, str) else np.array(start, np.float32),
    )  # fmt: skip
    model.fit(array.concatenate(shards))
    centers = model.cluster_centers_
    return centers.get() if hasattr(centers, "get") else np.asarray(centers), int(model.n_iter_)


def _load_rows_on_gpu(path: str, first: int, last: int, n_columns: int) -> Any:
    """Return rows of a mapped file, on the GPU of this worker process."""
    import cupy

    row_bytes = n_columns * np.dtype(np.float32).itemsize
    mapped = np.memmap(path, np.float32, "r", first * row_bytes, (last - first, n_columns))
    return cupy.asarray(np.array(mapped))


if __name__ == "__main__":
    fit_task(json.loads(Path(sys.argv[1]).read_text()))

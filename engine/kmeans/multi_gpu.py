"""The K-Means of cuML on all GPUs of a cluster together, asked for by a process of its own that has a deadline.

    scheduler, rows in a mapped file, where to start, LibraryPlan  ->  centres, iterations

cuML's workers meet in collectives (NCCL): all have to be there, one that is lost leaves the others waiting, and hangs
without any fault are known. What waits in a collective hears of nothing. So who starts it is a child that is ended when
its time is up, and the fit ends with an error that says so; the engine's own K-Means needs none of this. How libraries
are called is checked against their recorded signatures; nothing here has run on a GPU: not measured yet.
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

from engine.backends.protocol import LibraryPlan, Rows
from engine.config import ClusterConfig
from engine.errors import TaskFailedError, WorkersLostError
from engine.utils.signals import tidied

TAIL = 300  # characters of what went wrong


@dataclass(frozen=True)
class MultiGpuKMeans:
    """A scheduler whose workers have a GPU each, and a folder that they see."""

    scheduler: str
    wanted: ClusterConfig
    folder: Path

    def centres(self, X: np.memmap[Any, Any], start: Rows | str, plan: LibraryPlan) -> tuple[Rows, int]:
        """Return the centres that cuML finds, and its number of iterations.

        Raises
        ------
        WorkersLostError
            If there are none when `deadline_seconds` are over.
        TaskFailedError
            If the child ends without centres.
        """
        asked, found = self.folder / "collective.json", self.folder / "collective.npz"
        task = {"wanted": self.wanted.model_dump(), "scheduler": self.scheduler, "rows": str(X.filename)}
        task |= {"shape": X.shape, "start": start if isinstance(start, str) else start.tolist()}
        asked.write_text(json.dumps(task | {"plan": plan._asdict(), "found": str(found)}))
        found.unlink(missing_ok=True)
        _run([sys.executable, "-m", "engine.kmeans.multi_gpu", str(asked)], self.wanted.deadline_seconds)
        with np.load(found) as arrays:
            return np.ascontiguousarray(arrays["centres"], X.dtype), int(arrays["iterations"])


def _run(command: list[str], seconds: float) -> None:
    """Run the child, and end it and all it has started when its time is over."""
    child = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )  # fmt: skip
    try:
        with tidied(partial(os.killpg, child.pid, signal.SIGKILL)):
            _, told = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise WorkersLostError(
            f"cuML's K-Means on the workers has found nothing in {seconds:g} s.",
            hint="start the workers anew: they may wait for ever; or use kmeans.algorithm lloyd, which does not.",
        ) from error
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
    if child.returncode != 0:
        last = (told.strip().splitlines() or ["no reason given"])[-1][-TAIL:]
        raise TaskFailedError(
            f"cuML's K-Means on the workers ended without centres (status {child.returncode}): {last}",
            hint="cuml.dask needs dask-cudf and raft-dask on all machines; or use kmeans.algorithm lloyd.",
        )


def fit_task(task: dict[str, Any]) -> None:
    """Do what a MultiGpuKMeans asks: the child's part."""
    from engine.execution.dask_client import client_of, security_of

    wanted = ClusterConfig(**task["wanted"])
    with client_of(task["scheduler"], security_of(wanted)) as client:
        centres, iterations = fit_on(client, task)
    np.savez(task["found"], centres=centres, iterations=iterations)


def fit_on(client: Any, task: dict[str, Any]) -> tuple[NDArray[np.float32], int]:
    """Spread the rows over the workers, a share each, and let cuML cluster them."""
    import cupy
    from cuml.dask.cluster import KMeans
    from dask import array, delayed

    n_rows, n_columns = task["shape"]
    workers = sorted(client.nthreads())
    edges = np.linspace(0, n_rows, len(workers) + 1).astype(int).tolist()
    shares = []
    for worker, first, last in zip(workers, edges[:-1], edges[1:], strict=True):
        rows = delayed(_rows_on_gpu)(task["rows"], first, last, n_columns)
        meta = cupy.empty((0, n_columns), np.float32)
        share = array.from_delayed(rows, (last - first, n_columns), np.float32, meta=meta)
        shares.append(client.persist(share, workers=[worker]))
    plan, start = LibraryPlan(**task["plan"]), task["start"]
    model = KMeans(
        client=client, n_clusters=plan.n_clusters, n_init=plan.n_runs, max_iter=plan.max_iter, tol=plan.tol,
        random_state=plan.seed, init=start if isinstance(start, str) else np.array(start, np.float32),
    )  # fmt: skip
    model.fit(array.concatenate(shares))
    centres = model.cluster_centers_
    return centres.get() if hasattr(centres, "get") else np.asarray(centres), int(model.n_iter_)


def _rows_on_gpu(path: str, first: int, last: int, n_columns: int) -> Any:
    """Return rows of a mapped file on the GPU of this process, a worker."""
    import cupy

    row_bytes = n_columns * np.dtype(np.float32).itemsize
    mapped = np.memmap(path, np.float32, "r", first * row_bytes, (last - first, n_columns))
    return cupy.asarray(np.array(mapped))


if __name__ == "__main__":
    fit_task(json.loads(Path(sys.argv[1]).read_text()))

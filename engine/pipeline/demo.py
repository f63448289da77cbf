"""`rooms demo`: generate members, fit them, and compare the clusters with the planted communities."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from engine.config import FitConfig
from engine.datasets.demo_table import N_COMMUNITIES, write_demo
from engine.kmeans.metrics import adjusted_rand_index
from engine.pipeline.fit import fit
from engine.progress import Reporter
from engine.run import Run
from engine.tables.output_paths import local_path
from engine.utils.atomic_directory import check_target


@dataclass(frozen=True)
class DemoRun:
    """Result of `rooms demo`: the members, the run, and its adjusted Rand index with the planted communities."""

    members: Path
    run: Run
    adjusted_rand_index: float


def run_demo(
    folder: Path, *, n_rows: int, n_clusters: int | str | None, seed: int, overwrite: bool, reporter: Reporter
) -> DemoRun:
    """Write members/, planted/ and run/ below `folder`.

    Parameters
    ----------
    folder : path
    n_rows : int
    n_clusters : int, "auto" or None
        None is the number of planted communities.
    seed : int
    overwrite : bool
        Whether the files of an earlier demo are replaced.
    reporter : Reporter
    """
    folder = local_path(folder)
    check_target(folder / "run", overwrite=overwrite)
    with reporter.stage("generate", n_rows) as advance:
        paths = write_demo(folder, n_rows, seed=seed, progress=advance, overwrite=overwrite)
    k = N_COMMUNITIES if n_clusters is None else n_clusters
    run = fit(
        paths.members.absolute(),
        out=folder / "run",
        id="user_id",
        n_clusters=k,
        seed=seed,
        overwrite=overwrite,
        reporter=reporter,
        config=FitConfig.merge({}, explain={"domain": "members"}),
    )
    planted = pq.read_table(paths.planted.absolute())["community"].to_numpy()
    clusters = run.assignments["cluster"].to_numpy()
    communities, community = np.unique(planted, return_inverse=True)
    counts = np.zeros((len(communities), clusters.max() + 1), np.int64)
    np.add.at(counts, (community, clusters), 1)
    return DemoRun(paths.members, run, adjusted_rand_index(counts))

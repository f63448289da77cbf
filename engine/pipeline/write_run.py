"""Write everything of a run directory but the assignments: manifest, config, model, clusters, elbow."""

from __future__ import annotations

import csv
import hashlib
import json
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from engine.kmeans.select_k import METRICS

if TYPE_CHECKING:
    from engine.config import FitConfig
    from engine.features.fit import FittedFeatures
    from engine.kmeans.lloyd import Clustering
    from engine.kmeans.select_k import KSelection
    from engine.kmeans.stability import ClusterStability
    from engine.model.model import Model

LIBRARIES = ("numpy", "scipy", "scikit-learn", "numba", "pyarrow", "narwhals")


def write_run(
    folder: Path,
    settings: FitConfig,
    model: Model,
    features: FittedFeatures,
    selection: KSelection,
    clustering: Clustering,
    stability: ClusterStability,
    sizes: NDArray[np.int64],
    inertias: NDArray[np.float64],
    names: list[str] | None,
    facts: dict[str, Any],
    stages: list[dict[str, Any]],
    id_digest: int | None,
) -> None:
    """Write a run's files into its staging folder; `id_digest` is that of the table's ids, if it has some."""
    (folder / "config.yaml").write_text(settings.to_yaml())
    model.write(folder / "model")
    pq.write_table(_cluster_table(model, stability, sizes, inertias, names), folder / "clusters.parquet")
    _write_elbow(selection, folder / "elbow.csv")
    manifest = {
        "engine": version("rooms-engine"),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "run_id": _run_id(folder, id_digest, int(sizes.sum())),
        "seed": settings.seed,
        **facts,
        "rows": int(sizes.sum()),
        "columns": [asdict(role) for role in features.roles],
        "groups": {name: asdict(group) for name, group in features.weights.groups.items()},
        "repeated_columns": [asdict(found) for found in features.weights.repeated],
        "features": features.encoder.n_features,
        "components": int(model.pca.n_components_),
        "variance_explained": float(np.sum(model.pca.explained_variance_ratio_)),
        "clusters": model.n_clusters,
        "clusters_reason": selection.reason,
        "clusters_notes": list(selection.notes),
        "clusters_runner_up": selection.runner_up,
        "inertia": clustering.inertia,
        "runner_up_odds_error": None if np.isnan(stability.odds_error) else stability.odds_error,
        "iterations": clustering.n_iter,
        "kmeans_rows": asdict(clustering.pass_counts),  # screened, opened, defined: see decisions/0005
        "stages": stages,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def _run_id(folder: Path, id_digest: int | None, n_rows: int) -> str:
    """Return what identifies a run: its model, and the ids of its people in their order. The same run has the same."""
    document = json.loads((folder / "model" / "model.json").read_text())
    parts = (document["arrays_sha256"], document["facts_sha256"], str(id_digest), str(n_rows))
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


def update_manifest(folder: Path, facts: dict[str, Any]) -> None:
    """Replace or add entries of the manifest."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text()) | facts
    path.write_text(json.dumps(manifest, indent=1) + "\n")


def _cluster_table(
    model: Model,
    stability: ClusterStability,
    sizes: NDArray[np.int64],
    inertias: NDArray[np.float64],
    names: list[str] | None,
) -> pa.Table:
    columns: dict[str, Any] = {
        "cluster": model.cluster_numbers,
        "size": sizes,
        "share": sizes / sizes.sum(),
        "inertia": inertias,
        "silhouette": pa.array(stability.silhouette, from_pandas=True),  # NaN as null
        "stability": pa.array(stability.jaccard, from_pandas=True),
        "found_again": pa.array(stability.found_again, mask=np.isnan(stability.jaccard)),
    }
    if names is not None:
        columns["persona"] = pa.array(names)
    centers = model.centers_in_units()
    for name in centers.column_names:
        columns[name if name not in columns else f"{name} (feature)"] = centers[name]
    return pa.table(columns)


def _write_elbow(selection: KSelection, path: Path) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([*METRICS, "chosen", "runner_up"])
        for row in selection.table:
            marks = (int(row["k"] == k) for k in (selection.k, selection.runner_up))
            rows.writerow([*(row[name] for name in METRICS), *marks])

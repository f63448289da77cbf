"""The map of a fit: embed landmarks by t-SNE, place all other rows among them, and draw all rows.

    scores Z, labels  ->  LandmarkMap  ->  map.parquet, map.png, map/, [map_x, map_y, map_doubtful in the assignments]

Landmarks are a sample by (seed, row number) with a quota for every cluster, or small ones would vanish. With a previous
run, the embedding starts where that run's model and map place the landmarks, has no early exaggeration, and is rescaled
to that map, so clusters keep their positions: t-SNE by itself would spread a map a little more every night.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from engine.backends.cpu import CpuBackend
from engine.backends.protocol import Backend
from engine.config import FitConfig
from engine.execution.array_storage import Storage
from engine.execution.passes import over_rows, over_table
from engine.explain.row_sample import RowCollector
from engine.model.assignments import ROW, add_map_columns
from engine.model.files import write_model
from engine.pipeline.checkpoints import Checkpoints
from engine.progress import Reporter
from engine.report.map_image import draw_map
from engine.run import Run
from engine.tables import Table, open_table
from engine.tsne.device import build_placement_index, place_rows, rows_placed_at_once
from engine.tsne.types import Placement
from engine.utils.array_types import Float32s
from engine.utils.row_sampling import sample_stratified_rows

logger = logging.getLogger(__name__)

EARLY_EXAGGERATION = 12.0
EARLY_ITERATIONS = 150  # with early exaggeration: 250 give the same divergence on 10,000 landmarks
FINAL_MOMENTUM = 0.9  # reaches in 350 iterations the divergence that 0.8 reaches in 500; see decisions/0006
MIN_MAP_ROWS = 9  # with fewer rows there is no map: it would show nothing
DRAW_STEPS = 3  # the picture drawn, the landmarks read, their files written


@dataclass(frozen=True)
class LandmarkMap:
    """The map of all rows: embedded landmarks, and all rows placed among them."""

    landmarks: NDArray[np.int64]  # row numbers, ascending
    scores: Float32s  # (n_landmarks, n_components), for the placement of new rows
    labels: NDArray[np.int32]  # (n_rows,)
    coordinates: Float32s  # (n_rows, 2)
    uncertain: NDArray[np.bool_]  # (n_rows,), as in Placement
    in_assignments: bool  # whether the assignments hold the coordinates of all rows
    facts: dict[str, Any]  # for the manifest

    def add_map_columns(self, part: pa.Table, start: int) -> pa.Table:
        """Add the coordinates of the rows from `start` on to their assignments."""
        rows = slice(start, start + part.num_rows)
        return add_map_columns(part, Placement(self.coordinates[rows], self.uncertain[rows]))


def make_landmark_map(
    Z: Float32s,
    labels: NDArray[np.int32],
    n_clusters: int,
    table: Table,
    settings: FitConfig,
    *,
    backend: Backend,
    storage: Storage,
    checkpoints: Checkpoints,
    reporter: Reporter,
) -> LandmarkMap | None:
    """Embed landmarks and place all rows; None if the map is skipped, or there are fewer than MIN_MAP_ROWS rows.

    Raises
    ------
    MissingColumnError, RetypedColumnError
        If the table lacks what the previous run's model was fitted on.
    """
    if "map" in settings.skip or len(Z) < MIN_MAP_ROWS:
        return None
    config = settings.map
    landmarks = sample_stratified_rows(labels, n_clusters, config.n_landmarks, config.rows_per_cluster, settings.seed)
    scores = np.ascontiguousarray(Z[landmarks])
    facts, embedding = checkpoints.load_or_make(
        "map",
        lambda: _embed_landmarks(scores, landmarks, table, settings, backend, reporter),
        lambda result: (result[0], {"layout": result[1]}),
        lambda facts, arrays: (facts, arrays["layout"]),
    )
    is_fused = settings.kmeans.algorithm == "fused" and not settings.reproducible
    placing = backend.with_fused_kernels() if is_fused else backend
    with reporter.stage("place", len(Z)) as advance:
        coordinates, uncertain = place_all_rows(
            Z, placing, build_placement_index(placing, scores, embedding), storage, advance
        )
    facts = facts | {"doubtful": int(np.count_nonzero(uncertain)), "previous": settings.previous}
    return LandmarkMap(landmarks, scores, labels, coordinates, uncertain, config.place_all, facts)


def _embed_landmarks(
    scores: Float32s,
    landmarks: NDArray[np.int64],
    table: Table,
    settings: FitConfig,
    backend: Backend,
    reporter: Reporter,
) -> tuple[dict[str, Any], Float32s]:
    """Return facts about the t-SNE embedding of the landmarks, and the embedding."""
    config = settings.map
    perplexity = min(config.perplexity, len(landmarks) / 3)
    init: Any = "pca"
    early_exaggeration = EARLY_EXAGGERATION
    positions = None
    if settings.previous is not None:
        with reporter.stage("previous map", len(landmarks)) as advance:
            positions = _previous_positions(Path(settings.previous), table, landmarks, backend)
            advance(len(landmarks))
        if positions is not None:
            init, early_exaggeration = positions, 1.0
            if "cuml" in backend.libraries:
                logger.warning("cuML makes no map from given places: the CPU makes it.")
                backend = CpuBackend()
    # Imported here: SciPy's linear algebra takes a tenth of a second, which a run without a map saves.
    from engine.tsne.embed import compute_embedding

    tsne = compute_embedding(
        scores, backend, reporter, random=np.random.RandomState(settings.seed),
        perplexity=perplexity, early_exaggeration=early_exaggeration, max_iter=config.max_iter, init=init,
        early_exaggeration_iter=EARLY_ITERATIONS, final_momentum=FINAL_MOMENTUM,
    )  # fmt: skip
    facts = {
        "landmarks": len(landmarks),
        "perplexity": float(perplexity),
        "iterations": tsne.n_iter,
        "kl_divergence": tsne.kl_divergence,
        "recall_of_neighbours": tsne.recall,
        "library": tsne.library,
    }
    return facts, tsne.embedding if positions is None else _rescale_to(positions, tsne.embedding)


def write_landmark_map(
    folder: Path,
    landmark_map: LandmarkMap | None,
    id: str | None,
    numbers: NDArray[np.int32],
    names: Sequence[str] | None,
    reporter: Reporter,
) -> dict[str, Any] | None:
    """Write map.parquet, map.png and map/ beside the assignments; return facts for the manifest."""
    if landmark_map is None:
        return None
    with reporter.stage("draw map", DRAW_STEPS) as advance:
        draw_map(landmark_map.coordinates, landmark_map.labels, numbers, folder / "map.png", names or ())
        advance(1)
        rows, columns = RowCollector(landmark_map.landmarks), [id or ROW, "cluster"]
        assignments = open_table(folder / "assignments", id=columns[0])
        for picked in over_table(rows.observe, assignments, columns, pass_name="landmarks"):
            rows.collect(picked)
        advance(1)
        coordinates = landmark_map.coordinates[landmark_map.landmarks]
        table = rows.table().append_column("map_x", pa.array(coordinates[:, 0]))
        table = table.append_column("map_y", pa.array(coordinates[:, 1]))
        pq.write_table(table, folder / "map.parquet")
        write_model(folder / "map", {}, {"scores": landmark_map.scores, "places": coordinates})
        advance(1)
    return landmark_map.facts


def place_all_rows(Z: Float32s, backend: Backend, index: Any, storage: Storage, advance: Any) -> Placement:
    """Return the placement of all rows, block by block."""
    coordinates = storage.array("places", (len(Z), 2), np.float32)
    uncertain = storage.array("doubtful", (len(Z),), np.bool_)

    def place_block(part: slice) -> int:
        coordinates[part], uncertain[part] = place_rows(backend, Z[part], index)
        return int(part.stop - part.start)

    for n_done in over_rows(place_block, len(Z), rows_placed_at_once(backend, len(Z)), pass_name="place"):
        advance(n_done)
    return Placement(coordinates, uncertain)


def _rescale_to(previous: Float32s, embedding: Float32s) -> Float32s:
    """Return the embedding with the mean of the previous one, and scaled to it by least squares."""
    mean = previous.mean(axis=0, dtype=np.float64)
    old, new = previous - mean, embedding - embedding.mean(axis=0, dtype=np.float64)
    scale = np.sum(old * new) / np.sum(new * new)
    rescaled: Float32s = (mean + scale * new).astype(np.float32)
    return rescaled


def _previous_positions(run: Path, table: Table, landmarks: NDArray[np.int64], backend: Backend) -> Float32s | None:
    """Return where the previous run's model and map place the landmarks of this run; None if it has no map."""
    model = Run(run).model
    model.encoder.check_schema(table.schema)
    if model.landmarks is None:
        logger.warning("%s has no map to continue: this one begins anew.", run)
        return None
    rows = RowCollector(landmarks)
    for picked in over_table(rows.observe, table, model.encoder.columns, pass_name="previous map"):
        rows.collect(picked)
    scores = model.scores(rows.table(), device=backend)
    return place_rows(backend, scores, build_placement_index(backend, *model.landmarks)).coordinates

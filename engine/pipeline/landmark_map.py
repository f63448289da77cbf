"""The map as a stage of a fit: landmarks are laid out by t-SNE, everybody else is placed among them, all are drawn.

    scores Z, labels  ->  Chart  ->  map.parquet, map.png, map/, [map_x, map_y, map_doubtful in the assignments]

Landmarks are a sample by (seed, row number) with a quota for every cluster, or small ones would vanish. With a previous
run, they start where its model and map put them, are not exaggerated, and end at its scale, so clusters stay where they
were: t-SNE by itself would spread a map a little more every night.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from engine.backends.protocol import Backend
from engine.config import FitConfig
from engine.errors import ModelNotReadableError
from engine.execution.array_storage import Storage
from engine.execution.passes import over_rows, over_table
from engine.explain.row_sample import PickedRows
from engine.model.assignments import ROW, with_places
from engine.model.files import write_model
from engine.pipeline.checkpoints import Checkpoints
from engine.progress import Reporter
from engine.report.map_image import draw
from engine.run import Run
from engine.tables import Table, open_table
from engine.tsne.device import place, placement_index
from engine.tsne.types import Placed
from engine.utils.row_sampling import stratified_rows

Float32s = NDArray[np.float32]

PLACE_ROWS = 32_768  # rows placed by one thread at a time
EARLY_ITERATIONS = 150  # of 10,000 landmarks: 250 end nowhere else
MOMENTUM = 0.9  # after them: as low a divergence in 350 iterations as 0.8 reaches in 500; see decisions/0006
LEAST_ROWS = 9  # below, there is nothing to see


@dataclass(frozen=True)
class Chart:
    """A finished map of all rows."""

    landmarks: NDArray[np.int64]  # row numbers, ascending
    scores: Float32s  # (n_landmarks, n_components): what rows are placed by
    labels: NDArray[np.int32]  # (n_rows,)
    places: Float32s  # (n_rows, 2)
    doubtful: NDArray[np.bool_]  # (n_rows,)
    all_in_assignments: bool
    facts: dict[str, Any]

    def with_places(self, part: pa.Table, start: int) -> pa.Table:
        """Add the places of rows start … to their assignments."""
        rows = slice(start, start + part.num_rows)
        return with_places(part, Placed(self.places[rows], self.doubtful[rows]))


def map_rows(
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
) -> Chart | None:
    """Lay out landmarks and place all rows; None if the map is skipped, or there are fewer than LEAST_ROWS rows.

    Raises
    ------
    ModelNotReadableError
        If the previous run is not one, or has no map.
    MissingColumnError, RetypedColumnError
        If the table lacks what the previous run's model was fitted on.
    """
    if "map" in settings.skip or len(Z) < LEAST_ROWS:
        return None
    wanted = settings.map
    landmarks = stratified_rows(labels, n_clusters, wanted.n_landmarks, wanted.rows_per_cluster, settings.seed)
    scores = np.ascontiguousarray(Z[landmarks])
    facts, layout = checkpoints.remembered(
        "map",
        lambda: _laid_out(scores, landmarks, table, settings, backend, reporter),
        lambda made: (made[0], {"layout": made[1]}),
        lambda facts, arrays: (facts, arrays["layout"]),
    )
    with reporter.stage("place", len(Z)) as advance:
        placed = place_all(Z, backend, placement_index(backend, scores, layout), storage, advance)
    facts = facts | {"doubtful": int(np.count_nonzero(placed.doubtful)), "previous": settings.previous}
    return Chart(landmarks, scores, labels, placed.places, placed.doubtful, wanted.place_all, facts)


def _laid_out(
    scores: Float32s,
    landmarks: NDArray[np.int64],
    table: Table,
    settings: FitConfig,
    backend: Backend,
    reporter: Reporter,
) -> tuple[dict[str, Any], Float32s]:
    """Return facts about a t-SNE of landmarks, and their places."""
    wanted = settings.map
    perplexity = min(wanted.perplexity, len(landmarks) / 3)
    start: Any = "pca"
    exaggeration = 12.0
    if settings.previous is not None:
        with reporter.stage("previous map", None):
            start, exaggeration = _previous_places(Path(settings.previous), table, landmarks, backend), 1.0
    from engine.tsne.embed import map_of  # SciPy's linear algebra: a tenth of a second that a run without a map saves

    found = map_of(
        scores, backend, reporter, random=np.random.RandomState(settings.seed),
        perplexity=perplexity, exaggeration=exaggeration, iterations=wanted.max_iter, init=start,
        early_iterations=EARLY_ITERATIONS, momentum=MOMENTUM,
    )  # fmt: skip
    facts = {
        "landmarks": len(landmarks),
        "perplexity": float(perplexity),
        "iterations": found.n_iter,
        "kl_divergence": found.kl_divergence,
        "recall_of_neighbours": found.recall,
    }
    return facts, found.places if settings.previous is None else _at_scale_of(start, found.places)


def write_map(folder: Path, chart: Chart | None, id: str | None, reporter: Reporter) -> dict[str, Any] | None:
    """Write map.parquet, map.png and map/; the assignments are there already. Return facts for the manifest."""
    if chart is None:
        return None
    with reporter.stage("draw map", None):
        draw(chart.places, chart.labels, folder / "map.png")
        rows, columns = PickedRows(chart.landmarks), [id or ROW, "cluster"]
        for picked in over_table(rows.observe, open_table(folder / "assignments"), columns, what="landmarks"):
            rows.collect(picked)
        places = chart.places[chart.landmarks]
        table = rows.table().append_column("map_x", pa.array(places[:, 0]))
        table = table.append_column("map_y", pa.array(places[:, 1]))
        pq.write_table(table, folder / "map.parquet")
        write_model(folder / "map", {}, {"scores": chart.scores, "places": places})
    return chart.facts


def place_all(Z: Float32s, backend: Backend, index: Any, storage: Storage, advance: Any) -> Placed:
    """Return the places of all rows, and which of them are doubtful."""
    places = storage.array("places", (len(Z), 2), np.float32)
    doubtful = storage.array("doubtful", (len(Z),), np.bool_)

    def place_block(part: slice) -> int:
        places[part], doubtful[part] = place(backend, Z[part], index)
        return int(part.stop - part.start)

    for done in over_rows(place_block, len(Z), PLACE_ROWS, what="place"):
        advance(done)
    return Placed(places, doubtful)


def _at_scale_of(before: Float32s, now: Float32s) -> Float32s:
    """Return places about the middle that they had before, and as far apart: the least squares of all scales."""
    middle = before.mean(axis=0, dtype=np.float64)
    old, new = before - middle, now - now.mean(axis=0, dtype=np.float64)
    scale = np.sum(old * new) / np.sum(new * new)
    placed: Float32s = (middle + scale * new).astype(np.float32)
    return placed


def _previous_places(run: Path, table: Table, landmarks: NDArray[np.int64], backend: Backend) -> Float32s:
    """Return where the previous run's model and map put tonight's landmarks."""
    previous = Run(run).model
    previous.encoder.check(table.schema)
    if previous.landmarks is None:
        raise ModelNotReadableError(f"{run} has no map to go on from.", hint="fit it without --skip map.")
    rows = PickedRows(landmarks)
    for picked in over_table(rows.observe, table, previous.encoder.columns, what="previous map"):
        rows.collect(picked)
    scores = previous.scores(rows.table())
    return place(backend, scores, placement_index(backend, *previous.landmarks)).places

"""Audit a run before it is published: its files are read back and compared with what the stages computed.

    staging folder, Expected (rows, ids, cluster sizes, inertia)  ->  facts for the manifest, or AuditError

The input is not read again: ids are compared by a digest that depends on their order, taken while they were checked for
repetitions. Distances are written in float32, which bounds how far the inertia of the files may be off.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from engine.blocks import Block, count_rows
from engine.errors import AuditError, RoomsError
from engine.execution.passes import over_table
from engine.model.assignments import MAP_COLUMNS, ROW
from engine.model.files import read_model
from engine.progress import Advance
from engine.tables import open_table
from engine.tables.unique_ids import digest_ids, read_ids

# A float32 is off by a share of at most 2^-24, so its square by 2^-23 and a little.
INERTIA_TOLERANCE = 2.0**-22
_NOT_A_NUMBER = "not a number"


@dataclass(frozen=True)
class Expected:
    """What the files of a run have to say.

    Attributes
    ----------
    n_rows : int
    id : str or None
    id_type : pyarrow.DataType
        Of the ids in the table: files may hold them in another unit.
    ids : int or None
        Digest of the table's ids; None if rows are numbered.
    sizes : int64 array of shape (n_clusters,)
        By the labels of K-Means.
    numbers : int32 array of shape (n_clusters,)
        The number of each cluster, ascending.
    inertia : float
        Of K-Means.
    """

    n_rows: int
    id: str | None
    id_type: pa.DataType
    ids: int | None
    sizes: NDArray[np.int64]
    numbers: NDArray[np.int32]
    inertia: float


class _BlockAudit(NamedTuple):
    """What a block of the assignments says."""

    n_rows: int
    ids: int
    expected_ids: int  # of numbered rows
    sizes: NDArray[np.int64]
    inertia: float
    flaws: dict[str, int]  # what is wrong -> rows


def audit_run(folder: Path, expected: Expected, advance: Advance = lambda _: None) -> dict[str, Any]:
    """Compare the files in a run's staging folder with what was computed; return facts for the manifest.

    `advance` is called with the numbers of rows of the assignments just read.

    Raises
    ------
    AuditError
        Naming everything that differs.
    """
    try:
        facts: dict[str, Any] = {}
        differences = [*_assignment_flaws(folder, expected, facts, advance), *_table_flaws(folder, expected)]
        differences += [*_model_flaws(folder), *_document_flaws(folder)]
    except (RoomsError, pa.ArrowException, OSError) as error:
        raise AuditError([f"a file cannot be read back: {error}"]) from error
    if differences:
        raise AuditError(differences)
    return facts


def _assignment_flaws(folder: Path, expected: Expected, facts: dict[str, Any], advance: Advance) -> Iterator[str]:
    """Yield what is wrong with the assignments, and fill in what was measured."""
    id_name = expected.id or ROW
    assignments = open_table(folder / "assignments", id=id_name)
    columns = [name for name in assignments.schema.names if name != "outlier"]
    audit_block = partial(_audit_block, expected=expected)
    blocks = []
    for block in over_table(audit_block, assignments, columns, pass_name="audit"):
        blocks.append(block)
        advance(block.n_rows)
    n_rows = sum(block.n_rows for block in blocks)
    sizes = np.sum([block.sizes for block in blocks], axis=0)
    ids = _add_digests(block.ids for block in blocks)
    expected_ids = _add_digests(b.expected_ids for b in blocks) if expected.ids is None else expected.ids
    inertia = math.fsum(block.inertia for block in blocks)
    if not n_rows == count_rows(assignments) == expected.n_rows:
        yield f"the assignments hold {n_rows:,} of {expected.n_rows:,} rows"
    if ids != expected_ids:
        yield f"the ids of the assignments are not those of the table in its order (column {id_name!r})"
    if not np.array_equal(sizes, expected.sizes):
        wrong = np.flatnonzero(sizes != expected.sizes)
        c = int(wrong[0])
        yield (
            f"{len(wrong)} of {len(expected.sizes)} clusters have another size in the assignments: cluster "
            f"{expected.numbers[c]} has "
            f"{sizes[c]:,} rows, and K-Means counted {expected.sizes[c]:,}"
        )
    if not math.isclose(inertia, expected.inertia, rel_tol=INERTIA_TOLERANCE):
        yield f"the squared distances in the assignments add up to {inertia!r}, and the inertia is {expected.inertia!r}"
    for flaw in dict.fromkeys(flaw for block in blocks for flaw in block.flaws):
        yield f"{flaw} in {sum(block.flaws.get(flaw, 0) for block in blocks):,} rows of the assignments"
    error = abs(inertia - expected.inertia) / expected.inertia if expected.inertia else 0.0
    facts.update(rows=n_rows, clusters=len(sizes), ids=f"{ids:016x}", inertia=inertia, inertia_error=error)


def _audit_block(block: Block, expected: Expected) -> _BlockAudit:
    n_clusters = len(expected.sizes)
    ids = read_ids(block, expected.id or ROW).cast(expected.id_type)
    row_numbers = read_ids(block, None)
    flaws: dict[str, int] = {}
    for name in ("cluster", "runner_up"):
        values = block.rows[name].to_numpy()
        is_valid = np.isin(values, expected.numbers)
        if name == "runner_up" and n_clusters == 1:
            is_valid = values == -1  # there is no other cluster
        n_outside = int(np.count_nonzero(~is_valid))
        if n_outside:
            flaws[f"column {name!r} is no cluster"] = n_outside
    for name in ("distance", "margin", "runner_up_odds", *MAP_COLUMNS[:2]):
        if name in block.rows.column_names:
            n_bad = int(np.count_nonzero(~np.isfinite(block.rows[name].to_numpy())))
            if n_bad:
                flaws[f"column {name!r} is {_NOT_A_NUMBER}"] = n_bad
    clusters = block.rows["cluster"].to_numpy()
    valid = np.searchsorted(expected.numbers, clusters[np.isin(clusters, expected.numbers)])
    distances = block.rows["distance"].to_numpy().astype(np.float64)
    return _BlockAudit(
        len(block),
        digest_ids(ids, block.start),
        digest_ids(row_numbers, block.start) if expected.ids is None else 0,
        np.bincount(valid, minlength=n_clusters),
        float(distances @ distances),
        flaws,
    )


def _add_digests(digests: Iterable[int]) -> int:
    return sum(digests) % 2**64


def _table_flaws(folder: Path, expected: Expected) -> Iterator[str]:
    """Yield what is wrong with clusters.parquet and map.parquet."""
    clusters = pq.read_table(folder.absolute() / "clusters.parquet")
    if not np.array_equal(clusters["cluster"].to_numpy(), expected.numbers):
        yield "the numbers of clusters in clusters.parquet are not those of the model"
    if not np.array_equal(clusters["size"].to_numpy(), expected.sizes):
        yield "the sizes in clusters.parquet are not those that K-Means counted"
    inertia = math.fsum(clusters["inertia"].to_pylist())
    if not math.isclose(inertia, expected.inertia, rel_tol=INERTIA_TOLERANCE):
        yield f"the inertia in clusters.parquet adds up to {inertia!r}, and it is {expected.inertia!r}"
    yield from _non_finite_columns(clusters, "clusters.parquet")
    if (folder / "map.parquet").is_file():
        places = pq.read_table(folder.absolute() / "map.parquet", columns=["map_x", "map_y"])
        yield from _non_finite_columns(places, "map.parquet")


def _non_finite_columns(table: pa.Table, file: str) -> Iterator[str]:
    for name in table.column_names:
        if pa.types.is_floating(table.schema.field(name).type):
            known = table[name].drop_null().to_numpy()  # null is what is not known
            n_bad = int(np.count_nonzero(~np.isfinite(known)))
            if n_bad:
                yield f"column {name!r} of {file} is {_NOT_A_NUMBER} in {n_bad:,} rows"


def _model_flaws(folder: Path) -> Iterator[str]:
    """Yield which arrays of the model and of the map hold NaN, or infinity where only fences may."""
    for name in ("model", "map"):
        if (folder / name).is_dir():
            for array_name, array in read_model(folder / name)[1].items():
                bad = np.isnan(array) if array_name == "fences" else ~np.isfinite(array)
                if bad.any():
                    yield f"array {array_name!r} in {name}/ is {_NOT_A_NUMBER} in {int(bad.sum()):,} places"


def _document_flaws(folder: Path) -> Iterator[str]:
    """Yield which JSON files hold NaN or infinity, which JSON does not have."""
    for path in sorted(folder.glob("*.json")):
        try:
            json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        except ValueError as error:
            yield f"{path.name} is no JSON: {error}"


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"it holds {constant}")

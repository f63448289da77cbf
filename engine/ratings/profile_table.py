"""Compute the columns of the profile table from the user aggregates, in batches of users, and write it as Parquet.

    UserAggregates, UserTable  ->  batches of at most ROWS_PER_GROUP profiles  ->  a table, or a Parquet file

Fields have metadata for the fit and the report: `rooms.group` (interests, activity, demographics), `rooms.unit`,
`rooms.words` (a description, where the column name is not enough) and `rooms.role`: "ignore" for columns that only
repeat others in a form for people, "numeric" for shares and affinities, since those of a genre with few ratings would
otherwise be taken for counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from engine.errors import SchemaMismatchError
from engine.kernels.cpu.ratings import NO_TIME
from engine.ratings.column_names import MICROSECONDS_PER_SECOND
from engine.ratings.readers import UserTable
from engine.ratings.user_aggregates import UserAggregates
from engine.utils.atomic_files import write_atomically

ROWS_PER_GROUP = 65_536
AFFINITY_PRIOR = 5  # ratings: weight of the user's overall mean, towards which the mean of a genre is shrunk
N_FAVOURITES = 3
_MICROSECONDS_PER_DAY = 86_400 * MICROSECONDS_PER_SECOND
_MAX_STARS = 5.0

FieldColumns = list[tuple[pa.Field, pa.Array]]


def profile_batches(
    aggregates: UserAggregates, users: UserTable | None, user_codes: NDArray[np.int64], *, has_timestamps: bool
) -> Iterator[pa.RecordBatch]:
    """Yield the profiles of the users with these codes, in their order, in batches of ROWS_PER_GROUP.

    Raises
    ------
    SchemaMismatchError
        If two columns of the table would have one name.
    IdColumnError
        If the ids of ratings and users cannot be compared.
    """
    all_ids = aggregates.user_ids.uniques()
    for start in range(0, len(user_codes), ROWS_PER_GROUP):
        codes = user_codes[start : start + ROWS_PER_GROUP]
        ids = all_ids.take(pa.array(codes))
        columns: FieldColumns = [(pa.field("user_id", ids.type), ids)]
        columns += _rating_columns(aggregates, codes)
        if has_timestamps:
            columns += _time_columns(aggregates, codes)
        columns += _genre_columns(aggregates, codes) + _decade_columns(aggregates, codes)
        columns += _favourite_columns(aggregates, codes)
        if users is not None:
            columns += _demographic_columns(users, ids, aggregates)
        schema = pa.schema([field for field, _ in columns])
        repeated = sorted({name for name in schema.names if schema.names.count(name) > 1})
        if repeated:
            names = ", ".join(repr(name) for name in repeated)
            raise SchemaMismatchError(
                f"The profile table would have two columns {names}.",
                hint="rename the column of the users, or the genre.",
            )
        yield pa.RecordBatch.from_arrays([column for _, column in columns], schema=schema)


def _rating_columns(aggregates: UserAggregates, codes: NDArray[np.int64]) -> FieldColumns:
    count, total, squares = aggregates.count[codes], aggregates.total[codes], aggregates.squares[codes]
    # With ratings in half stars, the sums are exact, so equal ratings have a deviation of exactly 0.
    deviation = np.sqrt(np.maximum(count * squares - total * total, 0.0)) / count
    unit = _rating_unit(aggregates)
    return [
        (_field("n_ratings", pa.int64(), "activity", "ratings"), pa.array(count)),
        (_field("mean_rating", pa.float64(), "activity", unit), pa.array(total / count)),
        (_field("rating_sd", pa.float64(), "activity", unit, words="spread of ratings"), pa.array(deviation)),
    ]


def _time_columns(aggregates: UserAggregates, codes: NDArray[np.int64]) -> FieldColumns:
    first, last = aggregates.first_time[codes], aggregates.last_time[codes]
    unknown = first == NO_TIME
    days = {
        ("recency", "days since the last rating"): (aggregates.latest_time - last) / _MICROSECONDS_PER_DAY,
        ("days_active", "days from first to last rating"): (last - first) / _MICROSECONDS_PER_DAY,
    }
    return [
        (_field(name, pa.float64(), "activity", "days", words=words), pa.array(values, mask=unknown))
        for (name, words), values in days.items()
    ]


def _genre_columns(aggregates: UserAggregates, codes: NDArray[np.int64]) -> FieldColumns:
    count, total = aggregates.count[codes][:, None], aggregates.total[codes][:, None]
    in_genre, genre_total = aggregates.genre_count[codes].astype(np.int64), aggregates.genre_total[codes]
    share = in_genre / count
    # (genre mean - mean) * in_genre / (in_genre + prior), over one denominator: exactly 0 if the means are equal.
    affinity = (genre_total * count - in_genre * total) / (count * (in_genre + AFFINITY_PRIOR))
    shares = [
        (_field(f"share_{genre}", pa.float64(), "interests", "share of ratings", role="numeric"), pa.array(share[:, g]))
        for g, genre in enumerate(aggregates.items.genres)
    ]
    unit = _rating_unit(aggregates)
    affinities = [
        (_field(f"affinity_{genre}", pa.float64(), "interests", unit, role="numeric"), pa.array(affinity[:, g]))
        for g, genre in enumerate(aggregates.items.genres)
    ]
    return shares + affinities


def _decade_columns(aggregates: UserAggregates, codes: NDArray[np.int64]) -> FieldColumns:
    share = aggregates.decade_count[codes] / aggregates.count[codes][:, None]
    return [
        (
            _field(f"share_{decade}s", pa.float64(), "interests", "share of ratings", role="numeric"),
            pa.array(share[:, d]),
        )
        for d, decade in enumerate(aggregates.items.decades)
    ]


def _favourite_columns(aggregates: UserAggregates, codes: NDArray[np.int64]) -> FieldColumns:
    columns: FieldColumns = []
    if aggregates.items.decades:
        counts = aggregates.decade_count[codes]
        names = pa.array([f"{decade}s" for decade in aggregates.items.decades])
        favourite = pa.array(counts.argmax(axis=1), mask=counts.max(axis=1) == 0)  # ties: the earlier decade
        field = _field("favourite_decade", pa.string(), "interests", role="ignore")
        columns.append((field, names.take(favourite)))
    if aggregates.items.genres:
        counts = aggregates.genre_count[codes]
        order = np.argsort(-counts, axis=1, kind="stable")[:, :N_FAVOURITES]  # ties: alphabetical order
        has_ratings = np.take_along_axis(counts, order, axis=1) > 0
        offsets = np.concatenate(([0], np.cumsum(has_ratings.sum(axis=1)))).astype(np.int32)
        values = pa.array(aggregates.items.genres).take(pa.array(order[has_ratings]))
        field = _field("favourite_genres", pa.list_(pa.string()), "interests", role="ignore")
        columns.append((field, pa.ListArray.from_arrays(pa.array(offsets), values)))
    return columns


def _demographic_columns(users: UserTable, ids: pa.Array, aggregates: UserAggregates) -> FieldColumns:
    """Return the columns of the users' table, null for users without a row; names, types and metadata are kept."""
    ids, known_ids = users.unify_id_types(ids, id_type_inferred=aggregates.id_type_inferred)
    rows = pc.index_in(ids, value_set=known_ids)
    columns: FieldColumns = []
    for field in users.columns.schema:
        metadata = {**(field.metadata or {}), b"rooms.group": b"demographics"}
        column = users.columns[field.name].combine_chunks()
        columns.append((field.with_metadata(metadata).with_nullable(True), column.take(rows)))
    return columns


def _rating_unit(aggregates: UserAggregates) -> str:
    return "stars" if aggregates.max_rating <= _MAX_STARS else "rating points"


def _field(
    name: str,
    data_type: pa.DataType,
    group: str,
    unit: str | None = None,
    *,
    role: str | None = None,
    words: str | None = None,
) -> pa.Field:
    metadata = {"rooms.group": group, "rooms.unit": unit, "rooms.role": role, "rooms.words": words}
    return pa.field(name, data_type, metadata={key: value for key, value in metadata.items() if value is not None})


def write_profiles(batches: Iterable[pa.RecordBatch], out: Path) -> None:
    """Write a Parquet file with zstd and one row group per batch; it replaces an old file once it is complete.

    Raises
    ------
    OutOfResourcesError
        If the disk is full.
    """
    batches = iter(batches)
    first_batch = next(batches)
    with write_atomically(out) as path, pq.ParquetWriter(path, first_batch.schema, compression="zstd") as writer:
        for batch in chain([first_batch], batches):
            writer.write_batch(batch, row_group_size=ROWS_PER_GROUP)

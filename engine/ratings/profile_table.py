"""The profile table: columns from the sums of ratings, in order of user_id, in runs of users.

    RatingSums, Users  ->  batches of at most ROWS_PER_GROUP profiles  ->  a table, or a Parquet file

Fields carry metadata for who reads the table: `rooms.group` (interests, activity, demographics), `rooms.unit`,
`rooms.words` where a name says too little, and `rooms.role`: ignore for columns that are there for people and repeat
what others say, numeric for shares and affinities, or a genre of few ratings would be taken for a count.
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

from engine.errors import OutputExistsError, SchemaMismatchError, UsageError
from engine.kernels.cpu.ratings import NO_TIME
from engine.ratings.column_names import MICROSECONDS
from engine.ratings.readers import Users
from engine.ratings.user_aggregates import RatingSums
from engine.tables.source_paths import parquet_path
from engine.utils.atomic_files import written

ROWS_PER_GROUP = 65_536
AFFINITY_PRIOR = 5  # ratings: a genre's mean is taken as known when a user has clearly more than these in it
N_FAVOURITES = 3
_DAY = 86_400 * MICROSECONDS
_MOST_STARS = 5.0

Columns = list[tuple[pa.Field, pa.Array]]


def profile_batches(
    sums: RatingSums, users: Users | None, chosen: NDArray[np.int64], *, timed: bool
) -> Iterator[pa.RecordBatch]:
    """Yield the profiles of the users with numbers `chosen`, in that order, one run of ROWS_PER_GROUP at a time.

    Raises
    ------
    SchemaMismatchError
        If two columns of the table would have one name.
    IdColumnError
        If the ids of ratings and users cannot be compared.
    """
    ids = sums.users.ids()
    for start in range(0, len(chosen), ROWS_PER_GROUP):
        some = chosen[start : start + ROWS_PER_GROUP]
        run = ids.take(pa.array(some))
        columns: Columns = [(pa.field("user_id", run.type), run)]
        columns += _levels(sums, some) + (_times(sums, some) if timed else [])
        columns += _genres(sums, some) + _decades(sums, some) + _favourites(sums, some)
        if users is not None:
            columns += _demographics(users, run, sums)
        schema = pa.schema([field for field, _ in columns])
        repeated = sorted({name for name in schema.names if schema.names.count(name) > 1})
        if repeated:
            names = ", ".join(repr(name) for name in repeated)
            raise SchemaMismatchError(
                f"The profile table would have two columns {names}.",
                hint="rename the column of the users, or the genre.",
            )
        yield pa.RecordBatch.from_arrays([column for _, column in columns], schema=schema)


def _levels(sums: RatingSums, some: NDArray[np.int64]) -> Columns:
    count, total, squares = sums.count[some], sums.total[some], sums.squares[some]
    # One division and one root at the end: with stars, everything before is exact, and equal stars have sd 0.
    spread = np.sqrt(np.maximum(count * squares - total * total, 0.0)) / count
    return [
        (_field("n_ratings", pa.int64(), "activity", "ratings"), pa.array(count)),
        (_field("mean_rating", pa.float64(), "activity", _unit(sums)), pa.array(total / count)),
        (_field("rating_sd", pa.float64(), "activity", _unit(sums), words="spread of ratings"), pa.array(spread)),
    ]


def _times(sums: RatingSums, some: NDArray[np.int64]) -> Columns:
    first, last = sums.first[some], sums.last[some]
    unknown = first == NO_TIME
    days = {
        ("recency", "days since the last rating"): (sums.newest - last) / _DAY,
        ("days_active", "days from first to last rating"): (last - first) / _DAY,
    }
    return [
        (_field(name, pa.float64(), "activity", "days", words=words), pa.array(values, mask=unknown))
        for (name, words), values in days.items()
    ]


def _genres(sums: RatingSums, some: NDArray[np.int64]) -> Columns:
    count, total = sums.count[some][:, None], sums.total[some][:, None]
    in_genre, genre_total = sums.genre_count[some].astype(np.int64), sums.genre_total[some]
    share = in_genre / count
    # (genre mean - mean) * in_genre / (in_genre + prior), over one denominator: exactly 0 where the means are equal.
    affinity = (genre_total * count - in_genre * total) / (count * (in_genre + AFFINITY_PRIOR))
    shares = [
        (_field(f"share_{genre}", pa.float64(), "interests", "share of ratings", role="numeric"), pa.array(share[:, g]))
        for g, genre in enumerate(sums.items.genres)
    ]
    affinities = [
        (_field(f"affinity_{genre}", pa.float64(), "interests", _unit(sums), role="numeric"), pa.array(affinity[:, g]))
        for g, genre in enumerate(sums.items.genres)
    ]
    return shares + affinities


def _decades(sums: RatingSums, some: NDArray[np.int64]) -> Columns:
    share = sums.decade_count[some] / sums.count[some][:, None]
    return [
        (
            _field(f"share_{decade}s", pa.float64(), "interests", "share of ratings", role="numeric"),
            pa.array(share[:, d]),
        )
        for d, decade in enumerate(sums.items.decades)
    ]


def _favourites(sums: RatingSums, some: NDArray[np.int64]) -> Columns:
    columns: Columns = []
    if sums.items.decades:
        counts = sums.decade_count[some]
        names = pa.array([f"{decade}s" for decade in sums.items.decades])
        best = pa.array(counts.argmax(axis=1), mask=counts.max(axis=1) == 0)  # argmax: the earlier one of equals
        field = _field("favourite_decade", pa.string(), "interests", role="ignore")
        columns.append((field, names.take(best)))
    if sums.items.genres:
        counts = sums.genre_count[some]
        order = np.argsort(-counts, axis=1, kind="stable")[:, :N_FAVOURITES]  # equals stay in order of their names
        rated = np.take_along_axis(counts, order, axis=1) > 0
        offsets = np.concatenate(([0], np.cumsum(rated.sum(axis=1)))).astype(np.int32)
        flat = pa.array(sums.items.genres).take(pa.array(order[rated]))
        field = _field("favourite_genres", pa.list_(pa.string()), "interests", role="ignore")
        columns.append((field, pa.ListArray.from_arrays(pa.array(offsets), flat)))
    return columns


def _demographics(users: Users, run: pa.Array, sums: RatingSums) -> Columns:
    """Return the users' own columns, null for users who have none; names, types and metadata stay."""
    run, known = users.comparable(run, untyped=sums.untyped)
    rows = pc.index_in(run, value_set=known)
    columns: Columns = []
    for field in users.columns.schema:
        metadata = {**(field.metadata or {}), b"rooms.group": b"demographics"}
        column = users.columns[field.name].combine_chunks()
        columns.append((field.with_metadata(metadata).with_nullable(True), column.take(rows)))
    return columns


def _unit(sums: RatingSums) -> str:
    return "stars" if sums.largest <= _MOST_STARS else "rating points"


def _field(
    name: str,
    kind: pa.DataType,
    group: str,
    unit: str | None = None,
    *,
    role: str | None = None,
    words: str | None = None,
) -> pa.Field:
    metadata = {"rooms.group": group, "rooms.unit": unit, "rooms.role": role, "rooms.words": words}
    return pa.field(name, kind, metadata={key: value for key, value in metadata.items() if value is not None})


def check_output(out: Path, *, overwrite: bool) -> None:
    """Look at `out` before the long pass, and make the folder it goes to.

    Raises
    ------
    UsageError
        If it cannot be a Parquet file.
    OutputExistsError
        If something is there, and not to be replaced.
    """
    parquet_path(out)
    if out.is_dir():
        raise UsageError(
            f"{out} is a folder, but profiles are written to one file.", hint=f"try {out / 'profiles.parquet'}."
        )
    if out.exists() and not overwrite:
        raise OutputExistsError(f"{out} is there already.", hint="choose another --out, or add --overwrite.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out.parent} cannot be made: {error.strerror}.") from error


def write_profiles(batches: Iterable[pa.RecordBatch], out: Path) -> None:
    """Write a Parquet file, zstd, one row group a batch; it takes its name, and an old file's place, when whole.

    Raises
    ------
    OutOfResourcesError
        If the disk is full.
    """
    batches = iter(batches)
    first = next(batches)
    with written(out) as path, pq.ParquetWriter(path, first.schema, compression="zstd") as writer:
        for batch in chain([first], batches):
            writer.write_batch(batch, row_group_size=ROWS_PER_GROUP)

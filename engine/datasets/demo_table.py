"""A table of streaming members with planted communities: any number of rows, the same rows for ever.

    seed, number of a block  ->  65,536 members (31 columns), and the community each of them was drawn from

A block is drawn by a counter-based generator keyed on (seed, block), always whole, and cut to the rows asked for.
So a shorter table is the beginning of a longer one, and blocks can be drawn on any thread in any order. The
planted communities are written beside the members, never among them. Who the communities are: communities.py.

Three accounts of a hundred are shared: the member belongs to one community, somebody of another one watches. No
clustering can tell what these rows are, so a perfect score is out of reach, as it is in life.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from engine.blocks import Block, into_blocks, require_columns
from engine.datasets import communities
from engine.datasets.draw_members import DRAWN_ROWS, SCHEMA, Traits, draw_members
from engine.errors import OutputExistsError, UsageError
from engine.execution.threads import map_blocks
from engine.utils.atomic_files import new_folder

PLANTED_SCHEMA = pa.schema([pa.field("user_id", pa.int64()), pa.field("community", pa.string())])
N_COMMUNITIES = 12
ROWS_PER_FILE = 16 * DRAWN_ROWS  # about 52 MB of Parquet


@dataclass(frozen=True)
class DemoPaths:
    """Where a demo was written: the folder of the members, and the one of the truth about them."""

    members: Path
    planted: Path


class DemoMembers:
    """A generated table of `n_rows` members, as a source of blocks (`engine.tables.Table`).

    Parameters
    ----------
    n_rows : int
        At least 1.
    seed : int, default 0
        In [0, 2**64). Other seeds give other members of the same communities.
    n_communities : int, default 12
        In [2, 12]. The first so many of `communities.NAMES`, their shares scaled to 1.

    Raises
    ------
    UsageError
        If a parameter is outside its range.
    """

    def __init__(self, n_rows: int, *, seed: int = 0, n_communities: int = N_COMMUNITIES) -> None:
        if n_rows < 1:
            raise UsageError(f"n_rows={n_rows} must be at least 1.")
        if not 0 <= seed < 2**64:
            raise UsageError(f"seed={seed} must be in [0, 2**64).")
        if not 2 <= n_communities <= len(communities.NAMES):
            raise UsageError(f"n_communities={n_communities} must be in [2, {len(communities.NAMES)}].")
        self.n_rows = n_rows
        self.seed = seed
        self.n_communities = n_communities
        self._traits = Traits.of(n_communities)

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns, with `rooms.group` and `rooms.unit` in the fields' metadata."""
        return SCHEMA

    def blocks(self, columns: Sequence[str] | None = None, *, coded: bool = False) -> Iterator[Block]:
        """Yield the members in blocks, with these columns (all by default)."""
        names = list(SCHEMA.names if columns is None else columns)
        require_columns(SCHEMA, names, "The demo table")
        wanted = pa.schema([SCHEMA.field(name) for name in names])
        yield from into_blocks((members.select(names) for members, _ in self._drawn()), wanted)

    def planted(self) -> Iterator[pa.Table]:
        """Yield the truth in blocks of 65,536 rows: `user_id` and the name of the `community`."""
        for _, truth in self._drawn():
            yield truth

    def fingerprint(self) -> dict[str, Any]:
        """Return what the rows depend on."""
        columns = {field.name: str(field.type) for field in SCHEMA}
        drawn = {"seed": self.seed, "communities": self.n_communities}
        return {"format": "demo", "rows": self.n_rows, **drawn, "columns": columns}

    def write(
        self,
        out: str | PathLike[str],
        *,
        rows_per_file: int = ROWS_PER_FILE,
        overwrite: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> DemoPaths:
        """Write the table as Parquet parts, block by block, and the truth beside it.

        Parameters
        ----------
        out : path of a folder
            Gets `members/part-00000.parquet` … and `planted/part-00000.parquet` … with the same rows.
        rows_per_file : int
            Row groups hold 65,536 rows, or what is left of a file.
        overwrite : bool, default=False
            Whether parts that an earlier call left there are replaced.
        progress : callable, optional
            Called with the number of rows written after every block.

        Raises
        ------
        OutputExistsError
            If `out` holds members or planted communities already, or, with `overwrite`, anything but such parts.
        UsageError
            If `rows_per_file` is below 1.
        """
        if rows_per_file < 1:
            raise UsageError(f"rows_per_file={rows_per_file} must be at least 1.")
        paths = DemoPaths(Path(out) / "members", Path(out) / "planted")
        for folder in (paths.members, paths.planted):
            _make_way(folder, overwrite=overwrite)
        with (
            new_folder(paths.members),
            new_folder(paths.planted),
            _Parts(paths.members, SCHEMA, rows_per_file) as members,
            _Parts(paths.planted, PLANTED_SCHEMA, rows_per_file) as planted,
        ):
            for rows, truth in self._drawn():
                members.write(rows)
                planted.write(truth)
                if progress is not None:
                    progress(rows.num_rows)
        return paths

    def _drawn(self) -> Iterator[tuple[pa.Table, pa.Table]]:
        """Yield members and truth of every block, drawn on all threads."""
        return map_blocks(self._draw, range(-(-self.n_rows // DRAWN_ROWS)))

    def _draw(self, number: int) -> tuple[pa.Table, pa.Table]:
        rows = np.arange(number * DRAWN_ROWS, (number + 1) * DRAWN_ROWS, dtype=np.uint64)
        columns, community = draw_members(self._traits, self.seed, number, _scrambled(rows))
        members = pa.table(columns, schema=SCHEMA)
        names = pa.DictionaryArray.from_arrays(community, list(communities.NAMES)).dictionary_decode()
        planted = pa.table({"user_id": columns["user_id"], "community": names}, schema=PLANTED_SCHEMA)
        wanted = min(DRAWN_ROWS, self.n_rows - number * DRAWN_ROWS)
        return members.slice(0, wanted), planted.slice(0, wanted)


def write_demo(
    folder: str | PathLike[str],
    n_rows: int,
    seed: int = 0,
    n_files: int | None = None,
    *,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> DemoPaths:
    """Write a demo table of twelve communities; parameters and errors as in `DemoMembers` and its `write`.

    `n_files` splits the rows evenly; by default a file holds 1,048,576 rows.
    """
    if n_files is not None and n_files < 1:
        raise UsageError(f"n_files={n_files} must be at least 1.")
    rows_per_file = ROWS_PER_FILE if n_files is None else max(1, -(-n_rows // n_files))
    return DemoMembers(n_rows, seed=seed).write(
        folder, rows_per_file=rows_per_file, overwrite=overwrite, progress=progress
    )


def _make_way(folder: Path, *, overwrite: bool) -> None:
    """Remove the parts an earlier demo left, if that is wanted; refuse a folder that holds anything else."""
    if not folder.exists():
        return
    there = list(folder.iterdir()) if folder.is_dir() else [folder]
    foreign = [path for path in there if re.fullmatch(r"part-\d{5,}\.parquet", path.name) is None]
    if foreign or not overwrite:
        raise OutputExistsError(f"{folder} is there already.", hint="choose another folder, or overwrite a demo's own.")
    for path in there:
        path.unlink()
    folder.rmdir()


def _scrambled(rows: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return ids in [0, 2**63): a one-to-one scramble of the row numbers, so that most do not fit a float64."""
    below_2_63 = np.uint64(2**63 - 1)
    with np.errstate(over="ignore"):
        rows = (rows * np.uint64(0x9E3779B97F4A7C15)) & below_2_63  # odd factor: one-to-one modulo 2**63
        rows = rows ^ (rows >> np.uint64(32))
        return ((rows * np.uint64(0xBF58476D1CE4E5B9)) & below_2_63).astype(np.int64)


class _Parts:
    """Write tables one after another into `part-00000.parquet` … of a fixed number of rows."""

    def __init__(self, folder: Path, schema: pa.Schema, rows_per_file: int) -> None:
        self._folder, self._schema, self._rows_per_file = folder, schema, rows_per_file
        self._n_rows = 0
        self._open = ExitStack()
        self._part: pq.ParquetWriter

    def __enter__(self) -> _Parts:
        return self

    def __exit__(self, *failure: object) -> None:
        self._open.close()

    def write(self, rows: pa.Table) -> None:
        while rows.num_rows:
            number, used = divmod(self._n_rows, self._rows_per_file)
            if used == 0:
                self._open.close()
                self._part = self._open.enter_context(self._writer(number))
            fitting = rows.slice(0, self._rows_per_file - used)
            self._part.write_table(fitting, row_group_size=DRAWN_ROWS)
            self._n_rows += fitting.num_rows
            rows = rows.slice(fitting.num_rows)

    def _writer(self, number: int) -> pq.ParquetWriter:
        # A dictionary of ids would hold every value once more than the column itself.
        repeated = [_leaf(field) for field in self._schema if field.name != "user_id"]
        return pq.ParquetWriter(self._folder / f"part-{number:05d}.parquet", self._schema, use_dictionary=repeated)


def _leaf(field: pa.Field) -> str:
    """Return the path of a column's values in a Parquet file."""
    return f"{field.name}.list.element" if pa.types.is_list(field.type) else str(field.name)

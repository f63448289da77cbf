"""Generate a table of streaming members with planted communities: the same rows for the same seed, at any size.

    seed, number of a block  ->  65,536 members (31 columns), and the community each of them was drawn from

A counter-based generator keyed on (seed, block) always draws a complete block, of which the first rows are used. So a
shorter table is the beginning of a longer one, and blocks can be drawn on any thread in any order. The ground truth is
written to a separate folder, never as a column of the members. The parameters of the communities are in communities.py.

Three percent of the accounts are shared: the member belongs to one community, the viewer to another. No clustering can
recover the community of these rows, so a perfect score is impossible, as in real data.
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

from engine.blocks import Block, require_columns, split_into_blocks
from engine.datasets import communities
from engine.datasets.draw_members import ROWS_PER_DRAW, SCHEMA, MixtureParameters, draw_members
from engine.errors import OutputExistsError, UsageError
from engine.execution.threads import map_blocks
from engine.utils.atomic_files import new_folder

PLANTED_SCHEMA = pa.schema([pa.field("user_id", pa.int64()), pa.field("community", pa.string())])
N_COMMUNITIES = 12
ROWS_PER_FILE = 16 * ROWS_PER_DRAW  # about 52 MB of Parquet


@dataclass(frozen=True)
class DemoPaths:
    """Folders of a written demo: the members, and the planted communities (the ground truth)."""

    members: Path
    planted: Path


class DemoMembers:
    """A generated table of `n_rows` members, as a source of blocks (`engine.tables.Table`).

    Parameters
    ----------
    n_rows : int
        At least 1.
    seed : int, default 0
        In [0, 2**64). Another seed gives other members of the same communities.
    n_communities : int, default 12
        In [2, 12]: the first of `communities.NAMES`, with shares scaled to a sum of 1.

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
        self._parameters = MixtureParameters.for_communities(n_communities)

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns, with `rooms.group` and `rooms.unit` in the fields' metadata."""
        return SCHEMA

    def blocks(self, columns: Sequence[str] | None = None, *, dictionary_encoded: bool = False) -> Iterator[Block]:
        """Yield the members in blocks, with these columns (all by default)."""
        names = list(SCHEMA.names if columns is None else columns)
        require_columns(SCHEMA, names, "The demo table")
        schema = pa.schema([SCHEMA.field(name) for name in names])
        yield from split_into_blocks((members.select(names) for members, _ in self._draw_blocks()), schema)

    def planted(self) -> Iterator[pa.Table]:
        """Yield the ground truth in blocks of 65,536 rows: `user_id` and the name of the `community`."""
        for _, truth in self._draw_blocks():
            yield truth

    def fingerprint(self) -> dict[str, Any]:
        """Return what determines the rows: their number, the seed and the communities."""
        columns = {field.name: str(field.type) for field in SCHEMA}
        parameters = {"seed": self.seed, "communities": self.n_communities}
        return {"format": "demo", "rows": self.n_rows, **parameters, "columns": columns}

    def write(
        self,
        out: str | PathLike[str],
        *,
        rows_per_file: int = ROWS_PER_FILE,
        overwrite: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> DemoPaths:
        """Write the table as Parquet parts, block by block, and the ground truth in a separate folder.

        Parameters
        ----------
        out : path of a folder
            The parts are `members/part-00000.parquet` … and, in the same order, `planted/part-00000.parquet` …
        rows_per_file : int
            Row groups hold 65,536 rows; the last one of a file may be smaller.
        overwrite : bool, default=False
            Whether the parts of an earlier call are replaced.
        progress : callable, optional
            Called after every block with the number of rows just written.

        Raises
        ------
        OutputExistsError
            If `members` or `planted` exists already, or, with `overwrite`, holds other files than such parts.
        UsageError
            If `rows_per_file` is below 1.
        """
        if rows_per_file < 1:
            raise UsageError(f"rows_per_file={rows_per_file} must be at least 1.")
        paths = DemoPaths(Path(out) / "members", Path(out) / "planted")
        for folder in (paths.members, paths.planted):
            _remove_earlier_parts(folder, overwrite=overwrite)
        with (
            new_folder(paths.members),
            new_folder(paths.planted),
            _PartWriter(paths.members, SCHEMA, rows_per_file) as members,
            _PartWriter(paths.planted, PLANTED_SCHEMA, rows_per_file) as planted,
        ):
            for rows, truth in self._draw_blocks():
                members.write(rows)
                planted.write(truth)
                if progress is not None:
                    progress(rows.num_rows)
        return paths

    def _draw_blocks(self) -> Iterator[tuple[pa.Table, pa.Table]]:
        """Yield the members and the ground truth of every block, drawn on all threads."""
        return map_blocks(self._draw_block, range(-(-self.n_rows // ROWS_PER_DRAW)))

    def _draw_block(self, number: int) -> tuple[pa.Table, pa.Table]:
        rows = np.arange(number * ROWS_PER_DRAW, (number + 1) * ROWS_PER_DRAW, dtype=np.uint64)
        columns, community = draw_members(self._parameters, self.seed, number, _scramble_row_numbers(rows))
        members = pa.table(columns, schema=SCHEMA)
        names = pa.DictionaryArray.from_arrays(community, list(communities.NAMES)).dictionary_decode()
        planted = pa.table({"user_id": columns["user_id"], "community": names}, schema=PLANTED_SCHEMA)
        n_wanted = min(ROWS_PER_DRAW, self.n_rows - number * ROWS_PER_DRAW)
        return members.slice(0, n_wanted), planted.slice(0, n_wanted)


def write_demo(
    folder: str | PathLike[str],
    n_rows: int,
    seed: int = 0,
    n_files: int | None = None,
    *,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> DemoPaths:
    """Write a demo table of twelve communities; see `DemoMembers` and its `write` for parameters and errors.

    `n_files` splits the rows evenly; by default a file holds 1,048,576 rows.
    """
    if n_files is not None and n_files < 1:
        raise UsageError(f"n_files={n_files} must be at least 1.")
    rows_per_file = ROWS_PER_FILE if n_files is None else max(1, -(-n_rows // n_files))
    return DemoMembers(n_rows, seed=seed).write(
        folder, rows_per_file=rows_per_file, overwrite=overwrite, progress=progress
    )


def _remove_earlier_parts(folder: Path, *, overwrite: bool) -> None:
    """Remove the parts of an earlier demo if `overwrite`; raise OutputExistsError if the folder holds other files."""
    if not folder.exists():
        return
    existing = list(folder.iterdir()) if folder.is_dir() else [folder]
    foreign = [path for path in existing if re.fullmatch(r"part-\d{5,}\.parquet", path.name) is None]
    if foreign or not overwrite:
        raise OutputExistsError(f"{folder} already exists.", hint="choose another folder, or overwrite a demo's own.")
    for path in existing:
        path.unlink()
    folder.rmdir()


def _scramble_row_numbers(rows: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return ids in [0, 2**63): a bijection of the row numbers; most ids are not representable in float64."""
    below_2_63 = np.uint64(2**63 - 1)
    with np.errstate(over="ignore"):
        rows = (rows * np.uint64(0x9E3779B97F4A7C15)) & below_2_63  # odd factor: a bijection modulo 2**63
        rows = rows ^ (rows >> np.uint64(32))
        return ((rows * np.uint64(0xBF58476D1CE4E5B9)) & below_2_63).astype(np.int64)


class _PartWriter:
    """Writer of consecutive tables into `part-00000.parquet` … with a fixed number of rows per file."""

    def __init__(self, folder: Path, schema: pa.Schema, rows_per_file: int) -> None:
        self._folder, self._schema, self._rows_per_file = folder.absolute(), schema, rows_per_file
        self._n_rows = 0
        self._exit_stack = ExitStack()
        self._part_writer: pq.ParquetWriter

    def __enter__(self) -> _PartWriter:
        return self

    def __exit__(self, *failure: object) -> None:
        self._exit_stack.close()

    def write(self, rows: pa.Table) -> None:
        while rows.num_rows:
            number, n_used = divmod(self._n_rows, self._rows_per_file)
            if n_used == 0:
                self._exit_stack.close()
                self._part_writer = self._exit_stack.enter_context(self._open_part(number))
            part_rows = rows.slice(0, self._rows_per_file - n_used)
            self._part_writer.write_table(part_rows, row_group_size=ROWS_PER_DRAW)
            self._n_rows += part_rows.num_rows
            rows = rows.slice(part_rows.num_rows)

    def _open_part(self, number: int) -> pq.ParquetWriter:
        # Ids are unique: a dictionary would store every value a second time.
        dictionary_columns = [_leaf_path(field) for field in self._schema if field.name != "user_id"]
        return pq.ParquetWriter(
            self._folder / f"part-{number:05d}.parquet", self._schema, use_dictionary=dictionary_columns
        )


def _leaf_path(field: pa.Field) -> str:
    """Return the path of the values of a column in a Parquet file."""
    return f"{field.name}.list.element" if pa.types.is_list(field.type) else str(field.name)

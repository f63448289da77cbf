"""Assign lists of dicts, such as the requests that wait at a server at the same time, each as if it were alone.

    lists of dicts  ->  one block, if all values are plain, else one a list  ->  Z, nearest centers  ->  dicts

What an array operation costs for ten rows is mostly the call, so all rows share one. A value is plain if it is read
alike whatever other rows there are: RecordColumns.are_plain. Lists with anything else are read one by one, and one that
is at fault has its error as its answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engine import backends
from engine.errors import RoomsError
from engine.features.columnar_block import ColumnarBlock, read_block
from engine.features.number_columns import check_parsed_texts
from engine.model.assignments import COLUMNS, ROW, assignment_values, check_id_name
from engine.model.new_rows import MODEL, NAME, RUN, AddedColumns, check_finite
from engine.model.unseen import (
    FAR_SHARE,
    MIN_FAR_ROWS,
    ROUNDING,
    WARNED_SHARE,
    FittedShares,
    UnseenCounts,
    UnseenFlags,
    find_unseen,
    warn_of_unseen,
)
from engine.tables.vector_columns import expand_records
from engine.utils.array_types import Bools, Float32s, Int64s

if TYPE_CHECKING:
    from engine.model.model import Model

Records = Sequence[Mapping[str, Any]]
Answer = list[dict[str, Any]]
INT64 = range(-(2**63), 2**63)


class Read(NamedTuple):
    """The rows of some lists: a block, and the ids of all rows."""

    block: ColumnarBlock
    ids: list[Any]


class RequestAssigner:
    """Assigns lists of dicts by a model.

    Parameters
    ----------
    model : Model
    with_columns : sequence of "name" and "run"
        As of `Model.assign`.

    Raises
    ------
    UsageError, NotExplainedError, ModelNotReadableError
        If columns cannot be added.
    """

    def __init__(self, model: Model, with_columns: Sequence[str]) -> None:
        check_id_name(model.id)
        self._model, self._encoder = model, model.encoder
        self._added = AddedColumns.choose(model, place=False, top=1, with_columns=with_columns)
        self._shares = FittedShares.of(model.encoder, model.pca.mean_)
        elements = {f"{name}[{k}]": name for name, length in model.vectors.items() for k in range(length)}
        self._wanted = frozenset(elements.get(name, name) for name in model.encoder.columns)

    def __call__(self, requests: Sequence[Records]) -> list[Answer | RoomsError]:
        """Return the rows of each list with their clusters, or the error of the list."""
        answers: list[Answer | RoomsError] = []
        together = self._read_together(requests) if len(requests) > 1 else None
        reads = [] if together is None else [together]
        sizes = [len(records) for records in requests]
        if together is None:
            for records in requests:
                try:
                    reads.append(self._read(records))
                    answers.append([])
                except RoomsError as error:
                    answers.append(error)
            sizes = [n for n, answer in zip(sizes, answers, strict=True) if not isinstance(answer, RoomsError)]
        else:
            answers = [[] for _ in requests]
        rows = self._assign(reads, np.array(sizes)) if reads else []
        start, taken = 0, iter(sizes)
        for k, answer in enumerate(answers):
            if not isinstance(answer, RoomsError):
                n = next(taken)
                answers[k], start = rows[start : start + n], start + n
        return answers

    def _read_together(self, requests: Sequence[Records]) -> Read | None:
        """Read all lists as one block; None if one of them may be read in another way alone, or is at fault."""
        if not all(records and records[0].keys() >= self._wanted for records in requests):
            return None
        records: Records = list(chain.from_iterable(requests))
        ids: list[Any] = []
        for request in requests:
            of_request = self._plain_ids(request)
            if of_request is None:
                return None
            ids += of_request
        try:
            columns = self._encoder.record_columns(expand_records(records, self._model.vectors))
            if not columns.are_plain(self._encoder.layout.read_specs):
                return None
            return Read(read_block(columns, self._encoder.layout.read_specs), ids)
        except RoomsError:
            return None

    def _read(self, records: Records) -> Read:
        """Read one list."""
        columns = self._encoder.record_columns(expand_records(records, self._model.vectors))
        block = read_block(columns, self._encoder.layout.read_specs)
        check_parsed_texts(block)
        ids = self._plain_ids(records)
        return Read(block, columns.ids(self._model.id or ROW).to_pylist() if ids is None else ids)

    def _plain_ids(self, records: Records) -> list[Any] | None:
        """Return the ids of rows as they are, if they are all texts or whole numbers that a table can have."""
        name = self._model.id
        if name is None:
            return list(range(len(records)))
        ids: list[Any] = [record.get(name) for record in records]
        kinds = set(map(type, ids))
        if kinds == {str}:
            return ids if all(text.isascii() for text in ids) else None
        return ids if kinds == {int} and min(ids) in INT64 and max(ids) in INT64 else None

    def _assign(self, reads: Sequence[Read], sizes: Int64s) -> Answer:
        """Return the assignments of the rows of all blocks; `sizes` has the number of rows of each list."""
        model, backend = self._model, backends.resolve("auto")[0]
        scores = [backend.encoded_scores(self._encoder.encode_block(read.block), model.projection) for read in reads]
        Z: Float32s = np.concatenate(scores)
        check_finite(Z)
        self._warn(_concatenated([find_unseen(read.block, self._encoder) for read in reads]), Z, sizes)
        nearest = backend.nearest_two(Z, model.centers)
        check_finite(nearest.distances)
        columns: dict[str, list[Any]] = {model.id or ROW: list(chain.from_iterable(read.ids for read in reads))}
        values = assignment_values(nearest, model.fences, model.odds, model.cluster_numbers)
        for name, array in zip(COLUMNS, values, strict=True):
            columns[name] = [None] * len(Z) if array is None else array.tolist()
        if self._added.names is not None:
            columns[NAME] = [self._added.names[label] for label in nearest.labels.tolist()]
        for name, value in zip((RUN, MODEL), self._added.run or (), strict=False):
            columns[name] = [value] * len(Z)
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _warn(self, flags: UnseenFlags, Z: Float32s, sizes: Int64s) -> None:
        """Warn as `assign` does for each list alone."""
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        unknown, missing, far = (_sums(of_rows, starts) for of_rows in flags)
        without = np.zeros(len(Z), np.bool_)
        if self._model.metric == "cosine":
            without = (Z == 0).all(axis=1)
        directionless = _sums(without[None], starts)[0]
        many = unknown > (self._shares.rare[:, None] + WARNED_SHARE + ROUNDING) * sizes
        unlike = many | (missing == sizes) | (far >= np.maximum(MIN_FAR_ROWS, FAR_SHARE * sizes))
        for k in np.flatnonzero(unlike.any(axis=0) | (directionless > 0)).tolist():
            counts = UnseenCounts(int(sizes[k]), unknown[:, k], missing[:, k], far[:, k], int(directionless[k]))
            warn_of_unseen(counts, self._shares)


def _sums(flags: Bools, starts: Int64s) -> Int64s:
    """Return how many flags are set in each part of the rows that begins at a start."""
    sums: Int64s = np.add.reduceat(flags, starts, axis=1, dtype=np.int64)
    return sums


def _concatenated(flags: Sequence[UnseenFlags]) -> UnseenFlags:
    if len(flags) == 1:
        return flags[0]
    return UnseenFlags(*(np.concatenate(parts, axis=1) for parts in zip(*flags, strict=True)))

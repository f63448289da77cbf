"""Assign lists of dicts, such as the requests that wait at a server at the same time, each as if it were alone.

    lists of dicts  ->  one block, if all values are plain, else one a list  ->  Z, nearest centers  ->  dicts

What an array operation costs for ten rows is mostly the call, so all rows share one. A value is plain if it is read
alike whatever other rows there are: RecordColumns.are_plain. Lists with anything else are read one by one, and one that
is at fault has its error as its answer.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engine import backends
from engine.errors import RoomsError
from engine.features.columnar_block import ColumnarBlock, read_block
from engine.features.number_columns import NumberTextsWarning, check_parsed_texts
from engine.model.assignments import COLUMNS, ROW, assignment_values, check_id_name
from engine.model.new_rows import MODEL, NAME, RUN, AddedColumns, check_finite
from engine.model.unseen import (
    FAR_SHARE,
    MIN_FAR_ROWS,
    ROUNDING,
    WARNED_SHARE,
    FittedShares,
    FoundMarks,
    UnseenCounts,
    UnseenFlags,
    describe_unseen,
    find_unseen,
)
from engine.tables.vector_columns import expand_records
from engine.utils.array_types import Bools, Float32s, Int64s

if TYPE_CHECKING:
    from engine.model.model import Model

Records = Sequence[Mapping[str, Any]]
Answer = list[dict[str, Any]]
Warned = Callable[[int, str], None]
INT64 = range(-(2**63), 2**63)
Warn = Callable[[int, type[UserWarning], str], None]


class Read(NamedTuple):
    """The rows of some lists: a block, the ids of all rows, and what to warn of where texts could not be read."""

    block: ColumnarBlock
    ids: list[Any]
    notes: Sequence[str] = ()


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

    def __call__(self, requests: Sequence[Records], warned: Warned | None = None) -> list[Answer | RoomsError]:
        """Return the rows of each list with their clusters, or the error of the list.

        Each warning is given to `warned` with the number of its list; without that, it is raised as a warning.
        """
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
        rows: Answer = []
        if reads:
            read_numbers = [k for k, answer in enumerate(answers) if not isinstance(answer, RoomsError)]
            rows = self._assign(reads, np.array(sizes), partial(_warn, warned, read_numbers))
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
        notes, ids = check_parsed_texts(block), self._plain_ids(records)
        return Read(block, columns.ids(self._model.id or ROW).to_pylist() if ids is None else ids, notes)

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

    def _assign(self, reads: Sequence[Read], sizes: Int64s, warn: Warn) -> Answer:
        """Return the assignments of the rows of all blocks; `sizes` has the number of rows of each list read."""
        model, backend = self._model, backends.resolve("cpu")[0]  # a launch takes longer than a few rows
        scores = [backend.encoded_scores(self._encoder.encode_block(read.block), model.projection) for read in reads]
        Z: Float32s = np.concatenate(scores)
        check_finite(Z)
        for number, read in enumerate(reads):
            for note in read.notes:  # of a list that was read alone
                warn(number, NumberTextsWarning, note)
        self._warn(_concatenated([find_unseen(read.block, self._encoder) for read in reads]), Z, sizes, warn)
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

    def _warn(self, flags: UnseenFlags, Z: Float32s, sizes: Int64s, warn: Warn) -> None:
        """Warn as `assign` does for each list alone."""
        ends = np.cumsum(sizes)
        starts = ends - sizes
        unknown, missing, far = (_sums(of_rows, starts) for of_rows in flags[:3])
        without = np.zeros(len(Z), np.bool_)
        if self._model.metric == "cosine":
            without = (Z == 0).all(axis=1)
        directionless = _sums(without[None], starts)[0]
        many = unknown > (self._shares.rare[:, None] + WARNED_SHARE + ROUNDING) * sizes
        unlike = many | (missing == sizes) | (far >= np.maximum(MIN_FAR_ROWS, FAR_SHARE * sizes))
        with_marks = np.isin(np.arange(len(sizes)), np.searchsorted(ends, flags.marks.rows, side="right"))
        for k in np.flatnonzero(unlike.any(axis=0) | (directionless > 0) | with_marks).tolist():
            marks = flags.marks.counts(int(starts[k]), int(ends[k]))
            counts = UnseenCounts(int(sizes[k]), unknown[:, k], missing[:, k], far[:, k], marks, int(directionless[k]))
            for category, message in describe_unseen(counts, self._shares):
                warn(k, category, message)


def _warn(
    warned: Warned | None, list_numbers: Sequence[int], number: int, category: type[UserWarning], message: str
) -> None:
    """Give a warning of the list that was read as this number to the caller, or raise it as a warning."""
    if warned is None:
        warnings.warn(message, category, stacklevel=6)
    else:
        warned(list_numbers[number], message)


def _sums(flags: Bools, starts: Int64s) -> Int64s:
    """Return how many flags are set in each part of the rows that begins at a start."""
    sums: Int64s = np.add.reduceat(flags, starts, axis=1, dtype=np.int64)
    return sums


def _concatenated(flags: Sequence[UnseenFlags]) -> UnseenFlags:
    if len(flags) == 1:
        return flags[0]
    unknown, missing, far, marks = zip(*flags, strict=True)
    n_rows = [part.shape[1] for part in missing]
    return UnseenFlags(
        np.concatenate(unknown, axis=1),
        np.concatenate(missing, axis=1),
        np.concatenate(far, axis=1),
        FoundMarks.join(marks, n_rows),
    )

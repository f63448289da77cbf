"""Find columns that say one thing: numbers in several units, yes/no columns of one answer, several notations of it.

    plans of columns, their statistics, first rows  ->  RepeatedColumns: columns that are to share one weight

Numbers are compared as the encoder encodes them. Two repeat each other if they correlate by at least 0.99, of either
sign. The yes/no columns of one answer, of numbers or of texts, stand side by side, and no row has two of them; their
shares are those of a one-hot block. One category may come in several notations (renamed_columns.py), each of which has
the same share. What weight the columns get is in column_weights.py.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.blocks import Block
from engine.features.column_statistics import TableStatistics
from engine.features.columnar_block import UNLIMITED, ColumnarBlock, column_array, factorize_texts, to_text
from engine.features.encoding_plan import MIN_VARIANCE, CategoryPlan, EncodingPlan, NumberPlan
from engine.features.layout import Layout
from engine.features.renamed_columns import RenamedColumns, find_renamed_columns, is_flag

MIN_CORRELATION = 0.99  # of two columns that repeat each other
SCREEN_CORRELATION = 0.985  # in float32; pairs from here on are computed again in float64
COMPARED_ROWS = 2048  # sampled rows that correlations are computed on
MIN_COMPARED_ROWS = 20  # with fewer, chance correlates
COMPARED_VALUES = 1 << 24  # of all columns: very wide tables are screened on fewer rows
EXCLUSIVE_ROWS = 20_000  # sampled rows that 0/1 columns are compared on
MIN_CHANCE_OVERLAPS = 20.0  # rows with two of the columns, were they independent: if none has, it is no chance
_SCREENED_COLUMNS = 512  # columns compared with all others at a time
SHOWN_COLUMNS = 4  # of a set, in a message
_YES = frozenset(["yes", "y", "true", "t", "ja", "j", "oui", "sí", "si", "sim", "tak"])
_NO = frozenset(["no", "n", "false", "f", "nein", "non", "não", "nao", "nie"])
_STEM = re.compile(r"(.+)[-_.:= \[(/]")


class RepeatedColumnsWarning(UserWarning):
    """Warns of columns that say one thing, and share one weight."""


@dataclass(frozen=True)
class RepeatedColumns:
    """Columns that say one thing, their shares of its one weight, and why they are taken for it."""

    columns: tuple[str, ...]
    shares: tuple[float, ...]
    reason: str

    def describe(self) -> str:
        """Return the columns and the reason in words."""
        shown = ", ".join(map(repr, self.columns[: SHOWN_COLUMNS - 1]))
        n_hidden = len(self.columns) - SHOWN_COLUMNS
        hidden = f" … {self.columns[-1]!r}" if n_hidden > 0 else f", {self.columns[-1]!r}" if n_hidden == 0 else ""
        return f"{shown}{hidden} ({self.reason})"


def find_repeated_columns(
    plan: EncodingPlan, statistics: TableStatistics, first: Block | None, owners: Mapping[str, str]
) -> list[RepeatedColumns]:
    """Find the sets of columns that say one thing, in the order of the table.

    Parameters
    ----------
    plan : EncodingPlan
        Of all columns that are compared; weights in it do not matter.
    statistics : TableStatistics
    first : Block or None
        The first rows, if there are columns to compare: only they show which values come together.
    owners : mapping of column name to str
        Only columns of one owner are compared, such as the columns of a group.

    Returns
    -------
    list of RepeatedColumns; no column is in two of them.
    """
    position = {column.column: number for number, column in enumerate(plan.columns)}
    names = [column.column for column in plan.columns if isinstance(column, NumberPlan) and column.scale > 0]
    copies = _find_copies(plan, statistics, [name for name in names if name in owners], owners)
    leaders = {name: leader for leader, members in copies.items() for name in members}
    flags = {name: values for name, values in _flags(plan, statistics) if leaders.get(name, name) == name}
    texts = dict(_text_flags(plan, statistics, first))  # of other rows than the flags, so apart from them
    repeated = []
    taken: set[str] = set()

    def add(notations: Sequence[Mapping[str, float]], reason: str) -> None:
        """Add columns: each notation has the same share of the weight, and its columns have shares of that."""
        taken.update(name for notation in notations for name in notation)
        shares = {
            copy: share / len(notations) / len(copies.get(name, [name]))
            for notation in notations
            for name, share in notation.items()
            for copy in copies.get(name, [name])
        }
        shares = dict(sorted(shares.items(), key=lambda item: position[item[0]]))
        repeated.append(RepeatedColumns(tuple(shares), tuple(shares.values()), reason))

    compared = {name: owner for name, owner in owners.items() if leaders.get(name, name) == name}
    for found in find_renamed_columns(plan, statistics, first, compared):
        notations = [{name: 1.0} for name in found.columns]
        if found.flags:
            notations.append(_share_by_variance({name: flags[name] for name in found.flags}))
        add(notations, f"they repeat each other: {_name_notations(found)}")
    for values_of in (flags, texts):
        open_flags = {name: values for name, values in values_of.items() if name in owners and name not in taken}
        for block in _find_answers(open_flags, owners):
            answer = _share_by_variance({name: values_of[name] for name in block})
            add([answer], f"{len(block)} yes/no columns of one answer: no row has two")
    for leader in [name for name in copies if name not in taken]:
        add([{leader: 1.0}], f"they repeat each other: correlation {MIN_CORRELATION} or more")
    return sorted(repeated, key=lambda found: position[found.columns[0]])


def warn_of_repeated_columns(repeated: Sequence[RepeatedColumns]) -> None:
    """Warn of columns that share a weight, with the way to weigh each by itself."""
    if repeated:
        named = "; ".join(found.describe() for found in repeated)
        message = f"Columns that say one thing share one weight: {named}."
        remedy = "features.share_weights: false in the configuration weighs each by itself."
        warnings.warn(f"{message} {remedy}", RepeatedColumnsWarning, stacklevel=3)


def _find_copies(
    plan: EncodingPlan, statistics: TableStatistics, names: Sequence[str], owners: Mapping[str, str]
) -> dict[str, list[str]]:
    """Return the columns that repeat each other, by the first of them: each correlates with the first."""
    copies: dict[str, list[str]] = {}
    if len(names) < 2:
        return copies
    X = _encode_sample(plan, statistics, names)
    if len(X) < MIN_COMPARED_ROWS:
        return copies
    leader_of: dict[int, int] = {}
    for first, second in _correlated_pairs(X):
        if first in leader_of or second in leader_of or owners[names[first]] != owners[names[second]]:
            continue
        if abs(_correlation(X[:, first], X[:, second])) >= MIN_CORRELATION:
            leader_of[second] = first
            copies.setdefault(names[first], [names[first]]).append(names[second])
    return copies


def _codes_and_texts(first: Block, name: str) -> tuple[NDArray[np.int32], list[str]]:
    codes, texts = factorize_texts(to_text(column_array(first.rows, name)), UNLIMITED)
    return codes, texts or []


def _encode_sample(plan: EncodingPlan, statistics: TableStatistics, names: Sequence[str]) -> NDArray[np.float32]:
    """Return columns of numbers as the encoder encodes them, of the first rows of the sample: (n_rows, n_columns).

    The sample is in random order, so these are a sample too.
    """
    wanted = set(names)
    columns = tuple(column for column in plan.columns if column.column in wanted)
    numbers = np.stack([statistics.columns[name].sample[:COMPARED_ROWS] for name in names])
    no_texts = np.empty((0, numbers.shape[1]), np.int32)
    block = ColumnarBlock(numbers.shape[1], tuple(names), numbers, (), no_texts, (), {})
    return Layout(EncodingPlan(columns=columns, reference_day=plan.reference_day)).encode(block).dense


def _correlated_pairs(X: NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of columns that may correlate by MIN_CORRELATION, in lexical order."""
    n_rows = min(len(X), max(COMPARED_VALUES // X.shape[1], MIN_COMPARED_ROWS))
    Y = X[:n_rows] - X[:n_rows].mean(axis=0)
    lengths = np.sqrt(np.square(Y).sum(axis=0))
    Y /= np.where(lengths > 0, lengths, 1.0)
    for start in range(0, X.shape[1], _SCREENED_COLUMNS):
        products = np.abs(Y[:, start : start + _SCREENED_COLUMNS].T @ Y[:, start:])
        for first, second in zip(*np.nonzero(np.triu(products >= SCREEN_CORRELATION, 1)), strict=True):
            yield int(first) + start, int(second) + start


def _correlation(x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    """Return the correlation of two columns; NumPy's own sums have the same bits whatever the number of threads."""
    a, b = x - x.mean(dtype=np.float64), y - y.mean(dtype=np.float64)
    scale = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / scale) if scale > 0 else 0.0


def _flags(plan: EncodingPlan, statistics: TableStatistics) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield the columns of 0 and 1 with their sampled values; missing ones are NaN."""
    for column in plan.columns:
        if isinstance(column, NumberPlan) and is_flag(column, statistics.columns[column.column]):
            yield column.column, statistics.columns[column.column].sample[:EXCLUSIVE_ROWS]


def _text_flags(
    plan: EncodingPlan, statistics: TableStatistics, first: Block | None
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield the columns of two texts that say yes and no, as 0 and 1 in the first rows; missing ones are NaN."""
    for column in plan.columns:
        if first is None or not isinstance(column, CategoryPlan) or not first.has_column(column.column):
            continue
        texts = list(statistics.columns[column.column].counts)
        yes = [text for text in texts if text.strip().lower() in _YES]
        if len(texts) == 2 and len(yes) == 1 and all(text in yes or text.strip().lower() in _NO for text in texts):
            codes, known = _codes_and_texts(first, column.column)
            flag = np.full(len(codes), np.nan)
            for code, text in enumerate(known):
                if text in texts:
                    flag[codes == code] = float(text in yes)
            yield column.column, flag[:EXCLUSIVE_ROWS]


def _share_by_variance(flags: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """Return the share of each yes/no column of one answer: that of its variance, as in a one-hot block."""
    shares = np.array([float(np.nanmean(flag)) for flag in flags.values()])
    variances = shares * (1.0 - shares)
    parts = np.maximum(variances, MIN_VARIANCE) / max(variances.sum(), MIN_VARIANCE)
    return dict(zip(flags, parts.tolist(), strict=True))


def _name_notations(found: RenamedColumns) -> str:
    """Return in words how columns hold one answer."""
    n_names, n_flags = len(found.columns), len(found.flags)
    names = "a category" if n_names == 1 else f"{n_names} names of the same categories"
    flags = f" and {'a' if n_flags == 1 else n_flags} yes/no column{'s' * (n_flags > 1)} of its values"
    return names + flags * (n_flags > 0)


def _find_answers(flags: Mapping[str, NDArray[np.float64]], owners: Mapping[str, str]) -> Iterator[list[str]]:
    """Yield the 0/1 columns of one answer: neighbours of one owner that no row has two of.

    Columns whose names begin alike are neighbours first; of what is left, those that stand side by side.
    """
    if len(flags) < 3:
        return
    names = list(flags)
    ones = np.stack([np.nan_to_num(values) for values in flags.values()]).astype(np.float32)
    both = ones @ ones.T  # counts, exact in float32
    taken: set[str] = set()
    stems: dict[tuple[str, str], list[int]] = {}
    for number, name in enumerate(names):
        stem = _STEM.match(name)
        if stem is not None:
            stems.setdefault((owners[name], stem.group(1)), []).append(number)
    for group in stems.values():
        if _is_one_answer(group, ones, both):
            taken.update(names[number] for number in group)
            yield [names[number] for number in group]
    left = [number for number, name in enumerate(names) if name not in taken]
    start = 0
    while start < len(left):
        stop = start + 1
        while stop < len(left) and owners[names[left[stop]]] == owners[names[left[start]]]:
            if both[left[stop], left[start:stop]].any():
                break
            stop += 1
        run = left[start:stop]
        if _is_one_answer(run, ones, both):
            yield [names[number] for number in run]
            start = stop
        else:
            start += 1


def _is_one_answer(columns: Sequence[int], ones: NDArray[np.float32], both: NDArray[np.float32]) -> bool:
    """Tell whether at least three columns exclude each other in every row, which independent ones would not.

    In a table of few rows, it is an answer if every row has one of them.
    """
    block = both[np.ix_(columns, columns)]
    counts = np.diag(block)
    if len(columns) < 3 or block.sum() > counts.sum() or not counts.all():
        return False
    n_rows = ones.shape[1]
    expected = (float(counts.sum()) ** 2 - float(np.square(counts).sum())) / 2.0 / n_rows
    covers_all = int(counts.sum()) == n_rows >= MIN_COMPARED_ROWS
    return bool(expected >= MIN_CHANCE_OVERLAPS or covers_all)

"""Bin rows by predicates, and keep the bins packed: one line of bytes per column, one bit per label.

    ColumnarBlock  ->  packed (n_lines, n_rows) uint8       while a pass over the table holds the rows
    packed         ->  bins (n_predicates, n_rows) uint8    of the predicates that a tree or rule tests

Which predicates are tested is known only after the clustering, when the rows are gone. Packed, the bins of all
predicates take a sixth of the memory of the rows, so the table need not be read again. A number is packed as the number
of thresholds it has reached, a category as its index among those of the plan; 255 is a missing value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.explain.binning.predicates import YES, Predicate, find_predicates, missing_bin
from engine.features.columnar_block import ColumnarBlock
from engine.features.encoding_plan import CategoryPlan, ColumnPlan, EncodingPlan, LabelPlan, NumberPlan
from engine.kernels.cpu.explain import predicates as kernels
from engine.kernels.cpu.explain.bucketize import MISSING, ThresholdLookup, bucketize, build_lookup
from engine.utils.formatting import Vocabulary

Bins = NDArray[np.uint8]  # of shape (n_predicates, n_rows)
PackedBins = NDArray[np.uint8]  # of shape (n_lines, n_rows)
LABELS_PER_LINE = 8  # a label takes one bit


@dataclass(frozen=True)
class PackedColumn:
    """The lines of one column, and its predicates."""

    plan: ColumnPlan
    first_line: int
    n_lines: int
    predicates: tuple[int, ...]  # their indices among the binner's predicates
    lookup: ThresholdLookup | None  # of the thresholds, if the column is a number


class Binner:
    """Bins rows by predicates on the columns of a plan.

    Parameters
    ----------
    plan : EncodingPlan
    predicates : sequence of Predicate

    Attributes
    ----------
    n_lines : int
        Bytes per row of the packed bins.
    columns : list of PackedColumn
    """

    def __init__(self, plan: EncodingPlan, predicates: Sequence[Predicate]) -> None:
        self.plan, self.predicates = plan, tuple(predicates)
        by_column: dict[str, list[int]] = {}
        for index, predicate in enumerate(self.predicates):
            by_column.setdefault(predicate.column, []).append(index)
        self.columns: list[PackedColumn] = []
        self.n_lines = 0
        for column in plan.columns:
            indices = tuple(by_column.get(column.column, ()))
            n_bytes = -(-len(indices) // LABELS_PER_LINE) if isinstance(column, LabelPlan) else 1
            n_lines = min(len(indices), n_bytes)
            lookup = self._threshold_lookup(indices) if isinstance(column, NumberPlan) else None
            self.columns.append(PackedColumn(column, self.n_lines, n_lines, indices, lookup))
            self.n_lines += n_lines
        self._lines, self._tables = self._lookup_tables()

    @classmethod
    def from_sample(cls, plan: EncodingPlan, rows: ColumnarBlock, words: Vocabulary) -> Binner:
        """Return a binner with the predicates that do not put all of these sampled rows into one bin."""
        binner = cls(plan, find_predicates(plan, rows, words))
        bins = binner.unpack(binner.pack(rows))
        varied = np.flatnonzero(bins.min(axis=1, initial=255) < bins.max(axis=1, initial=0))
        return cls(plan, [binner.predicates[index] for index in varied])

    def pack(self, rows: ColumnarBlock) -> PackedBins:
        """Return the packed bins of rows."""
        packed = np.empty((self.n_lines, rows.n_rows), np.uint8)
        self.pack_into(rows, packed)
        return packed

    def pack_into(self, rows: ColumnarBlock, out: PackedBins) -> None:
        """Write the packed bins of rows, of shape (n_lines, n_rows)."""
        for column in self.columns:
            if column.predicates:
                self.pack_column(column, rows, out[column.first_line : column.first_line + column.n_lines])

    def pack_column(self, column: PackedColumn, rows: ColumnarBlock, lines: PackedBins) -> None:
        """Write the packed bins of one column of rows, of shape (column.n_lines, n_rows)."""
        name = column.plan.column
        if column.lookup is not None:
            bucketize(rows.numbers[rows.number_rows[name]], column.lookup, lines[0])
        elif isinstance(column.plan, CategoryPlan):
            number = rows.text_rows[name]
            table = _category_codes(rows.names[number] or [], column.plan.categories)
            kernels.map_codes(rows.codes[number], table, lines[0])
        else:
            labels = rows.labels[name]
            bits = {self.predicates[index].value: bit for bit, index in enumerate(column.predicates)}
            bit_of = np.array([bits.get(label, -1) for label in labels.names or ()], np.int32)
            kernels.set_label_bits(labels.offsets, labels.codes, bit_of, labels.missing, bits.get(None, -1), lines)

    def lookup_tables(self, predicates: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Return the line of packed bins that each predicate looks at, and its bin for each byte there."""
        return self._lines[list(predicates)], self._tables[list(predicates)]

    def unpack(self, packed: PackedBins, predicates: Sequence[int] | None = None) -> Bins:
        """Return the bins of packed rows by these predicates, all by default; of shape (n_predicates, n_rows)."""
        indices = range(len(self.predicates)) if predicates is None else predicates
        bins = np.empty((len(indices), packed.shape[1]), np.uint8)
        kernels.evaluate_predicates(packed, *self.lookup_tables(indices), bins)
        return bins

    def _threshold_lookup(self, predicates: Sequence[int]) -> ThresholdLookup:
        """Return the lookup of a number's thresholds, which one of the predicates on it has."""
        thresholds = [threshold for index in predicates for threshold in self.predicates[index].thresholds]
        return build_lookup(np.array(thresholds, np.float64))

    def _lookup_tables(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Return the line that each predicate looks at, and its bin for each byte there."""
        lines = np.zeros(len(self.predicates), np.int64)
        tables = np.zeros((len(self.predicates), 256), np.uint8)
        for column in self.columns:
            for number, index in enumerate(column.predicates):
                bit = number if isinstance(column.plan, LabelPlan) else 0
                lines[index] = column.first_line + bit // LABELS_PER_LINE
                if isinstance(column.plan, LabelPlan):
                    tables[index] = np.arange(256) >> (bit % LABELS_PER_LINE) & 1
                else:
                    tables[index] = self._lookup_table(self.predicates[index], column.plan)
        return lines, tables

    def _lookup_table(self, predicate: Predicate, plan: NumberPlan | CategoryPlan) -> NDArray[np.uint8]:
        """Return the bin for each packed byte of a number or category."""
        table = np.zeros(256, np.uint8)
        if isinstance(plan, NumberPlan):
            table[:] = np.arange(256) if predicate.kind != "missing" else 0
        elif predicate.kind == "rare category":
            table[len(plan.categories)] = YES
        elif predicate.kind == "category":
            table[plan.categories.index(predicate.value or "")] = YES
        table[MISSING] = missing_bin(predicate, plan, self.plan.reference_day)
        return table


def _category_codes(names: list[str], categories: Sequence[str]) -> NDArray[np.uint8]:
    """Return the packed byte of a missing value, then of each of a block's names."""
    codes = {name: code for code, name in enumerate(categories)}
    return np.array([MISSING, *(codes.get(name, len(categories)) for name in names)], np.uint8)

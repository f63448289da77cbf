"""Rows that differ from one row in a few columns, and where the model puts them.

    a block of one row, changes of its columns  ->  a block of changed rows  ->  X, scores, clusters

Changes are made on the row as the encoder reads it, in the column's own units, whatever its texts look like in the
table. Scores of a change are added up without rounding between: an encoding is one of each column by itself, so those
of several columns are the sum of those of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from engine import backends
from engine.features.columnar_block import MISSING_CODE, ColumnarBlock, RaggedLabels
from engine.model.directions import score_projection
from engine.model.model import Model
from engine.utils.array_types import Float64s, Int32s

# Of a column: a number, or the day since 1970-01-01; a category; the labels. None is a missing value.
Value = float | str | tuple[str, ...] | None
Change = Mapping[str, Value]  # values by column


@dataclass(frozen=True)
class PersonRow:
    """One row of a table as a model reads it.

    Attributes
    ----------
    model : Model
    block : ColumnarBlock
        Of one row.
    """

    model: Model
    block: ColumnarBlock

    @cached_property
    def values(self) -> dict[str, Value]:
        """The value of every column of the plan."""
        block, values = self.block, dict[str, Value]()
        for column in self.model.encoder.columns:
            if column in block.number_rows:
                number = float(block.numbers[block.number_rows[column], 0])
                values[column] = None if np.isnan(number) else number
            elif column in block.text_rows:
                code = int(block.codes[block.text_rows[column], 0])
                names = block.names[block.text_rows[column]] or []
                values[column] = None if code == MISSING_CODE else names[code]
            else:
                part = block.labels[column]
                labels = tuple((part.names or [])[code] for code in part.codes.tolist() if code != MISSING_CODE)
                values[column] = None if part.missing[0] else labels
        return values

    @cached_property
    def scores(self) -> Float64s:
        """The scores before any scaling to unit length, float64 of shape (n_components,)."""
        scores: Float64s = self._encode([{}])[1][0]
        return scores

    @cached_property
    def label(self) -> int:
        """The position of the person's cluster in the model."""
        return int(self.labels_of([{}])[0])

    def effects(self, changes: Sequence[Change]) -> tuple[Float64s, Float64s]:
        """Return how changes move the row: the length in X (n_changes,), and the scores (n_changes, n_components)."""
        X, Z = self._encode([{}, *changes])
        return np.linalg.norm(X[1:] - X[0], axis=1), Z[1:] - Z[0]

    def labels_of(self, changes: Sequence[Change]) -> Int32s:
        """Return the positions of the clusters that the model assigns the changed rows to, as for any new row."""
        Z = self.model.block_scores(self._changed(changes))
        labels: Int32s = backends.resolve("auto")[0].nearest_two(Z, self.model.centers).labels
        return labels

    def _encode(self, changes: Sequence[Change]) -> tuple[Float64s, Float64s]:
        """Return X and the scores of changed rows, without scaling to unit length."""
        encoder = self.model.encoder
        rows = encoder.encode_block(self._changed(changes))
        projection = score_projection(encoder, self.model.pca, "euclidean")
        Z = backends.resolve("auto")[0].encoded_scores(rows, projection)
        return encoder.layout.to_matrix(rows).astype(np.float64), np.asarray(Z, np.float64)

    def _changed(self, changes: Sequence[Change]) -> ColumnarBlock:
        block, n_rows = self.block, len(changes)
        numbers = np.repeat(block.numbers[:, :1], n_rows, axis=1)
        for name, row in block.number_rows.items():
            for i, change in enumerate(changes):
                if name in change:
                    value = change[name]
                    numbers[row, i] = np.nan if value is None else value
        codes = np.empty((len(block.text_columns), n_rows), np.int32)
        names: list[list[str] | None] = []
        for name, row in block.text_rows.items():
            of_rows = [change.get(name, self.values[name]) for change in changes]
            known = list(dict.fromkeys(str(value) for value in of_rows if value is not None))
            codes[row] = [MISSING_CODE if value is None else known.index(str(value)) for value in of_rows]
            names.append(known)
        labels = {name: self._changed_labels(name, changes) for name in block.labels}
        return ColumnarBlock(n_rows, block.number_columns, numbers, block.text_columns, codes, tuple(names), labels)

    def _changed_labels(self, name: str, changes: Sequence[Change]) -> RaggedLabels:
        of_rows = [change.get(name, self.values[name]) for change in changes]
        lists = [value if isinstance(value, tuple) else () for value in of_rows]
        known = list(dict.fromkeys(label for labels in lists for label in labels))
        offsets = np.cumsum([0, *map(len, lists)]).astype(np.int32)
        codes = np.array([known.index(label) for labels in lists for label in labels], np.int32)
        return RaggedLabels(offsets, codes, known, np.array([value is None for value in of_rows]))

"""Write a whole model as one SELECT: the encoder, the components and the nearest center.

    encoder, projection, centers  ->  SQL: given columns, columns of X, one score a cluster, the number of the largest

The nearest center c of scores z has the largest z·c − |c|²/2, and z is linear in the columns of X: so every cluster has
one linear expression of them, in which the components are folded into the center. Ties go to the first cluster, as in
`assign`. With metric "cosine", z is divided by its length: z·c − |z||c|²/2 is compared, and rows that are shorter than
the shortest, which have no direction, are compared by −|c|²/2.

Sums are written in groups, because databases limit how deep expressions are nested. They are computed in double
precision, where the engine rounds X and Z to float32: decision 0054 says which rows may differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.backends.protocol import Projection
from engine.errors import UsageError
from engine.export.sql_dialect import SqlDialect
from engine.export.sql_encoder import SqlEncoder, plan_width
from engine.features.encoder import FeatureEncoder
from engine.features.encoding_plan import ColumnPlan
from engine.utils.array_types import Float64s

TERMS = 40  # of a sum in one pair of parentheses
RESULT_COLUMNS = ("cluster", "cluster_name")
HEADER = """\
-- A model of {n_clusters} clusters for a table {table}, written for {dialect}: one statement.
-- A missing value, NULL or the NaN or infinity of a floating-point column, is filled in as the model was fitted:
-- numbers and dates by their typical value, categories by a column of their own or by the most frequent one.
-- Values that the model does not know count as "other". Times with a time zone are read in UTC.
{note}"""


class SqlModel:
    """Writes a model in one dialect.

    Parameters
    ----------
    encoder : FeatureEncoder
    projection : Projection
        Of encoded rows to scores.
    centers : float32 array of shape (n_clusters, n_components)
    numbers : int32 array of shape (n_clusters,)
        The number of each cluster.
    names : mapping or None
        The name of each cluster by its number.
    """

    def __init__(
        self,
        encoder: FeatureEncoder,
        projection: Projection,
        centers: NDArray[np.float32],
        numbers: NDArray[np.int32],
        names: Mapping[int, str] | None,
    ) -> None:
        self.encoder, self.projection, self.names = encoder, projection, names
        self.centers = centers.astype(np.float64)
        self.numbers = numbers.tolist()

    def write(self, dialect: SqlDialect, schema: pa.Schema, id: str, table: str) -> str:
        """Return the statement.

        Parameters
        ----------
        dialect : SqlDialect
        schema : pyarrow.Schema
            Of the table; it has the columns of the encoder.
        id : str
            The column that is passed through.
        table : str
            The name of the table, as it is written in a statement.

        Raises
        ------
        UsageError
            If the dialect cannot write a column.
        """
        if id in RESULT_COLUMNS:
            raise UsageError(f"The id column is named {id!r}, as a column of the result.", hint="rename it.")
        steps = self._encoding_steps(dialect, schema, id, table)
        steps |= self._score_steps(dialect) if self.projection.shortest is None else self._direction_steps(dialect)
        scores = [f"score_{label}" for label in range(len(self.numbers))]
        steps["best"] = {score: score for score in scores} | {"best_score": dialect.largest(scores)}
        cases = [f"WHEN {score} = best_score THEN {n}" for score, n in zip(scores, self.numbers[:-1], strict=False)]
        last = self.numbers[-1]
        steps["assigned"] = {"cluster": f"CASE {' '.join(cases)} ELSE {last} END" if cases else str(last)}
        parts, source = [], table
        for step, columns in steps.items():
            row_id = dialect.identifier(id) if source == table else "row_id"
            body = _select({"row_id": row_id} | columns, source) + dialect.row_limit
            parts.append(f"{step} {dialect.with_keyword} (\n{body}\n)")
            source = step
        header = HEADER.format(n_clusters=len(self.numbers), table=table, dialect=dialect.name, note=dialect.note)
        result = {dialect.identifier(id): "row_id", "cluster": "cluster"} | self._name_column(dialect)
        return f"{header}WITH {', '.join(parts)}\n{_select(result, source)};\n"

    def _encoding_steps(self, dialect: SqlDialect, schema: pa.Schema, id: str, table: str) -> dict[str, dict[str, str]]:
        """Return the values of the table's columns, and the columns of X: x_ and h_ are numbered as the axes are."""
        plans: list[ColumnPlan] = []
        dense: list[int] = []
        hot: list[int] = []
        n_dense = n_hot = 0
        for plan in self.encoder.plan.columns:
            width = plan_width(plan)
            dense_numbers = range(n_dense, n_dense + width.dense)
            hot_numbers = range(n_hot, n_hot + width.hot)
            n_dense, n_hot = dense_numbers.stop, hot_numbers.stop
            used = self.projection.dense_axes[dense_numbers].any() or self.projection.hot_axes[hot_numbers].any()
            if used:
                plans.append(plan)
                dense += dense_numbers
                hot += hot_numbers
        sources = SqlEncoder(self.encoder.plan, schema, dialect).source_columns(plans)
        values = [value for source in sources for value in source.dense]
        truths = [truth for source in sources for truth in source.hot]
        encoded = {f"x_{number}": value for number, value in zip(dense, values, strict=True)}
        encoded |= {f"h_{number}": truth for number, truth in zip(hot, truths, strict=True)}
        return {"given": {source.name: source.value for source in sources}, "encoded": encoded}

    def _score_steps(self, dialect: SqlDialect) -> dict[str, dict[str, str]]:
        """Return the scores of clusters as sums over the columns of X."""
        constants = self._folded(self.projection.base) - np.square(self.centers).sum(axis=1) / 2.0
        sums = self._sums(
            dialect, constants, self._folded(self.projection.dense_axes), self._folded(self.projection.hot_axes)
        )
        return {"scored": {f"score_{label}": expression for label, expression in enumerate(sums)}}

    def _direction_steps(self, dialect: SqlDialect) -> dict[str, dict[str, str]]:
        """Return scores of rows as sums over the columns of X, their length, and the scores of clusters."""
        n, number = self.projection.n_components, dialect.number
        base, dense, hot = (axes[..., :n] for axes in self.projection[1:4])
        components = {f"z_{p}": expression for p, expression in enumerate(self._sums(dialect, base, dense, hot))}
        squares = _sum([f"{z} * {z}" for z in components])
        halves = np.square(self.centers).sum(axis=1) / 2.0
        scores = {}
        for label, (center, half) in enumerate(zip(self.centers, halves, strict=True)):
            product = _sum([f"{number(weight)} * {z}" for z, weight in zip(components, center, strict=True)])
            without = f"length < {number(self.projection.shortest or 0.0)}"
            direction = f"{product} - length * {number(half)}"
            scores[f"score_{label}"] = f"CASE WHEN {without} THEN {number(-half)} ELSE {direction} END"
        passed = {z: z for z in components}
        return {"components": components, "lengths": passed | {"length": f"SQRT({squares})"}, "scored": scores}

    def _folded(self, axes: Float64s) -> Float64s:
        """Return the products of axes (..., n_components or wider) and centers, of shape (..., n_clusters)."""
        folded: Float64s = axes[..., : self.projection.n_components] @ self.centers.T
        return folded

    def _sums(self, dialect: SqlDialect, constants: Float64s, dense: Float64s, hot: Float64s) -> list[str]:
        """Return one sum a column of dense (n_dense, n_sums) and hot (n_hot, n_sums), over the columns of X."""
        names = [f"x_{j}" for j in range(len(dense))] + [f"h_{j}" for j in range(len(hot))]
        return [
            _sum([dialect.computed_double(dialect.number(constant)), *(
                f"{dialect.number(factor)} * {name}" for name, factor in zip(names, factors, strict=True) if factor != 0
            )])
            for constant, factors in zip(constants, np.concatenate([dense, hot]).T, strict=False)
        ]  # fmt: skip

    def _name_column(self, dialect: SqlDialect) -> dict[str, str]:
        if self.names is None:
            return {}
        cases = " ".join(f"WHEN {number} THEN {dialect.text(self.names[number])}" for number in self.numbers)
        return {"cluster_name": f"CASE cluster {cases} END"}


def _sum(terms: Sequence[str]) -> str:
    """Return a sum in which parentheses hold at most TERMS terms."""
    if len(terms) <= TERMS:
        return " + ".join(terms)
    groups = [terms[first : first + TERMS] for first in range(0, len(terms), TERMS)]
    return "\n    + ".join(f"({' + '.join(group)})" for group in groups)


def _select(columns: Mapping[str, str], source: str) -> str:
    """Return a SELECT of expressions by their names."""
    written = [name if name == value else f"{value} AS {name}" for name, value in columns.items()]
    return "SELECT\n  " + ",\n  ".join(written) + f"\nFROM {source}"

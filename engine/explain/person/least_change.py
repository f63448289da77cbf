"""Find the least change of a row that moves it to another cluster: fewest columns first, then the smallest change.

    PersonRow  ->  steps of each column  ->  LeastChange, whose row the model does assign to another cluster

A number moves along a line in the scores, so the place where it leaves its cluster is found by bisection; categories
and labels are tried one by one. Where no column alone suffices, the fewest columns follow from the largest step of each
towards another center: the border of two clusters is a plane, and steps of different columns add up. Sizes are lengths
in X, where every column has about the same variance. Of the smallest set there may be several: those of the columns
with the largest steps are compared. Whatever is found is assigned by the model before it is told.

Numbers stay within the limits that the encoder clips to, and nothing becomes missing or a category of the rarer ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np
from numpy.typing import NDArray

from engine.explain.person.changed_rows import Change, PersonRow, Value
from engine.features.encoding_plan import DAYS_PER_YEAR, CategoryPlan, ColumnPlan, LabelPlan, NumberPlan
from engine.utils.array_types import Float64s

LINE_STEPS, BISECTIONS = 32, 20  # of the way of numbers: steps in which the border is looked for, and then halvings
FILL_STEPS = 9  # values tried for a number that is missing
MAX_COLUMNS = 8  # that a change may have
POOL = 10  # columns with the largest steps, of which sets are compared
DIGITS = 3  # of a number, to which it is rounded; tried from the fewest on, after whole numbers
MARGIN = 1e-6  # of the way beyond the border, so that rounding to float32 does not put the row back


@dataclass(frozen=True)
class LeastChange:
    """A change that moves a person.

    Attributes
    ----------
    values : dict of column to value
        As PersonRow has them.
    label : int
        The position of the cluster that the changed row is assigned to.
    """

    values: dict[str, Value]
    label: int


@dataclass(frozen=True)
class _Step:
    """A change of one column, its length in X, and how it moves the scores; `way` says that part of it is possible."""

    column: str
    value: Value
    size: float
    move: Float64s
    way: bool


def find_least_change(row: PersonRow, columns: Sequence[str], whole: Sequence[str] = ()) -> LeastChange | None:
    """Find the least change of a row's columns that moves it to another cluster.

    Parameters
    ----------
    row : PersonRow
    columns : sequence of str
        Columns that may change.
    whole : sequence of str
        Those that hold whole numbers only.

    Returns
    -------
    LeastChange or None
        None if nothing within the limits moves the row.
    """
    return _Search(row, columns, whole).run() if row.model.n_clusters > 1 else None


class _Search:
    """The search for one row: see find_least_change."""

    def __init__(self, row: PersonRow, columns: Sequence[str], whole: Sequence[str]) -> None:
        self.row, self.whole = row, set(whole)
        self.plans = {plan.column: plan for plan in row.model.encoder.plan.columns}
        self.day = row.model.encoder.plan.reference_day
        wanted = [(name, value, way) for name in columns for value, way in self._targets(self.plans[name])]
        sizes, moves = row.effects([{name: value} for name, value, _ in wanted])
        self.steps = [
            _Step(name, value, size, move, way)
            for (name, value, way), size, move in zip(wanted, sizes.tolist(), moves, strict=True)
            if size > 0
        ]

    def run(self) -> LeastChange | None:
        """Return the least change."""
        for sets in chain([self._single_steps()], self._larger_sets()):
            found: list[tuple[float, tuple[_Step, ...], float]] = []
            for steps in sets:
                way = self._way(steps)
                if way is not None:
                    found.append((_size(steps, way), steps, way))
            for _, steps, part in sorted(found, key=lambda item: item[0]):
                change = self._confirm(steps, part)
                if change is not None:
                    return change
        return None

    def _targets(self, plan: ColumnPlan) -> Iterator[tuple[Value, bool]]:
        """Yield the values that a column may change to, and whether all between are possible as well."""
        value = self.row.values[plan.column]
        if plan.weight <= 0.0:
            return
        if isinstance(plan, CategoryPlan):
            yield from ((category, False) for category in plan.categories if category != value)
        elif isinstance(plan, LabelPlan):
            labels = value if isinstance(value, tuple) else ()
            for label in plan.labels:
                rest = tuple(other for other in labels if other != label)
                yield (rest if label in labels else (*labels, label)), False
        elif plan.role == "boolean":
            yield from ((end, False) for end in (plan.low, plan.high) if end != value)
        elif value is None:
            yield from (
                (self._from_plan(plan, v), False) for v in np.linspace(plan.low, plan.high, FILL_STEPS).tolist()
            )
        else:
            yield from ((self._from_plan(plan, end), True) for end in (plan.low, plan.high))

    def _single_steps(self) -> list[tuple[_Step, ...]]:
        return [(step,) for step in self.steps]

    def _larger_sets(self) -> Iterator[list[tuple[_Step, ...]]]:
        """Yield sets of two columns, of three and so on, from the fewest that can suffice."""
        centers = self.row.model.centers.astype(np.float64)
        own = centers[self.row.label]
        for n_columns in range(2, MAX_COLUMNS + 1):
            sets = []
            for target in np.delete(centers, self.row.label, axis=0):
                best = self._best_steps(target - own)
                if sum(gain for gain, _ in best[:n_columns]) > self._deficit(target, own):
                    sets += list(combinations([step for _, step in best[:POOL]], n_columns))
            yield sets

    def _best_steps(self, direction: Float64s) -> list[tuple[float, _Step]]:
        """Return the step of each column that goes farthest in a direction, the farthest first."""
        best: dict[str, tuple[float, _Step]] = {}
        for step in self.steps:
            gain = float(step.move @ direction)
            if gain > best.get(step.column, (0.0, step))[0]:
                best[step.column] = gain, step
        return sorted(best.values(), key=lambda item: -item[0])

    def _deficit(self, target: Float64s, own: Float64s) -> float:
        """Return how far the row has to go towards another center; of directions, that is not known beforehand."""
        if self.row.model.metric == "cosine":
            return 0.0
        z = self.row.scores
        return float(np.square(z - target).sum() - np.square(z - own).sum()) / 2

    def _way(self, steps: Sequence[_Step]) -> float | None:
        """Return the smallest part of the way of numbers at which the row leaves its cluster, None if it does not."""
        moving = np.sum([step.move for step in steps if step.way] or [np.zeros_like(self.row.scores)], axis=0)
        start = self.row.scores + sum((step.move for step in steps if not step.way), np.zeros_like(moving))
        parts = np.linspace(0.0, 1.0, LINE_STEPS + 1)
        outside = self._leaves(start + parts[:, None] * moving)
        if not outside.any():
            return None
        first = int(outside.argmax())
        low, high = parts[max(first - 1, 0)], parts[first]
        for _ in range(BISECTIONS if first else 0):
            middle = (low + high) / 2
            low, high = (low, middle) if self._leaves(start + middle * moving[None])[0] else (middle, high)
        return min(float(high) + MARGIN, 1.0)

    def _leaves(self, Z: Float64s) -> NDArray[np.bool_]:
        """Tell which scores belong to another cluster."""
        model = self.row.model
        if model.metric == "cosine":
            shortest = model.projection.shortest or 0.0
            length = np.linalg.norm(Z, axis=1, keepdims=True)
            Z = np.where(length < shortest, 0.0, Z / np.maximum(length, 1e-300))
        centers = model.centers.astype(np.float64)
        distances = np.square(centers).sum(axis=1) - 2 * Z @ centers.T
        return np.asarray(distances.argmin(axis=1) != self.row.label)

    def _confirm(self, steps: Sequence[_Step], way: float) -> LeastChange | None:
        """Return a change, with round numbers where they do, if the model assigns its row to another cluster."""
        for digits in (*range(DIGITS + 1), None):
            values: Change = {step.column: self._value(step, way, digits) for step in steps}
            label = int(self.row.labels_of([values])[0])
            if label != self.row.label:
                return LeastChange(dict(values), label)
        return None

    def _value(self, step: _Step, way: float, digits: int | None) -> Value:
        """Return what a column changes to: part of the way of a number, rounded away from where it is now."""
        plan, now = self.plans[step.column], self.row.values[step.column]
        if not isinstance(plan, NumberPlan) or plan.role == "boolean" or not isinstance(step.value, float):
            return step.value
        value, away = step.value, 1.0
        deviation = self._deviation(plan, value)
        unit = 10.0 ** (math.floor(math.log10(deviation)) - max(digits or 0, 1))
        if digits == 0 and deviation >= 1 and isinstance(now, float) and now.is_integer():
            unit = max(unit, 1.0)  # whole numbers may be stored as decimals
        if step.way and isinstance(now, float):
            here, end = self._to_plan(plan, now), self._to_plan(plan, step.value)
            value = self._from_plan(plan, here + way * (end - here))
            away = 1.0 if value > now else -1.0
        if step.column in self.whole or plan.role == "date":
            unit = 1.0
        elif digits is None:
            return value
        rounded = math.ceil(away * value / unit - 1e-9) * unit * away
        return float(f"{rounded:.12g}")

    def _deviation(self, plan: NumberPlan, value: float) -> float:
        """Return about one standard deviation of a column at a value, in its units."""
        v = self._to_plan(plan, value)
        width = 1.0 / plan.scale if plan.scale > 0 else 1.0
        below, above = (self._from_plan(plan, v + sign * width / 2) for sign in (-1, 1))
        return max(abs(above - below), 1e-12)

    def _to_plan(self, plan: NumberPlan, value: float) -> float:
        """Return a number as the plan counts it: years before the reference day, log1p, clipped."""
        value = (self.day - value) / DAYS_PER_YEAR if plan.role == "date" else value
        value = math.log1p(max(value, 0.0)) if plan.logarithm else value
        return min(max(value, plan.low), plan.high)

    def _from_plan(self, plan: NumberPlan, value: float) -> float:
        value = math.expm1(value) if plan.logarithm else value
        return self.day - value * DAYS_PER_YEAR if plan.role == "date" else value


def _size(steps: Sequence[_Step], way: float) -> float:
    """Return the length in X of a change of several columns, of which numbers go part of the way."""
    return math.hypot(*(step.size * (way if step.way else 1.0) for step in steps))

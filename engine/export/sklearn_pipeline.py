"""A model as a Pipeline of scikit-learn, which predicts without rooms engine.

    EncodingPlan, schema, projection, centers  ->  ColumnTransformer, PCA, [Normalizer], KNeighborsClassifier

All parts are classes and functions of scikit-learn, pandas, numpy and Python, so a pickle needs nothing else. Columns
of X that are 0 or 1, and numbers that are clipped but not scaled, go to the PCA, whose mean and components are scaled
instead. The nearest of the centers is a nearest neighbor, whose class is the number of the cluster.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from itertools import filterfalse
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.backends.protocol import Projection
from engine.errors import UsageError
from engine.export.onnx_graph import category_number
from engine.export.sql_dialect import STRIPPED
from engine.features.columnar_block import physical_kind
from engine.features.encoder import FeatureEncoder
from engine.features.encoding_plan import DAYS_PER_YEAR, CategoryPlan, ColumnPlan, LabelPlan, NumberPlan
from engine.tables.list_texts import is_list, joining_steps
from engine.tables.vector_columns import vector_name
from engine.utils.array_types import Float64s
from engine.utils.formatting import natural_list

DAY_IN_MILLISECONDS = 86_400_000.0
NO_TIME = float(np.iinfo(np.int64).min)  # what a missing datetime64 is as a number
UNKNOWN, MISSING = -1, -2  # codes of categories
MISSING_TEXT = "\x00missing"  # a text that no table has


def to_pipeline(
    encoder: FeatureEncoder,
    schema: pa.Schema,
    mean: Float64s,
    projection: Projection,
    centers: NDArray[np.float32],
    numbers: NDArray[np.int32],
) -> Any:
    """Return a fitted Pipeline that predicts the numbers of clusters of a pandas frame.

    Raises
    ------
    UsageError
        If scikit-learn or pandas cannot read a column, all of which are named, or pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise UsageError("A pipeline of scikit-learn reads pandas frames, and pandas is not installed.") from error
    from sklearn.compose import ColumnTransformer
    from sklearn.decomposition import PCA
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import Normalizer

    parts = PipelineParts(pd, encoder, schema, mean, projection)
    # Parameters hold all state, so a row without values fits what it passes through.
    frame = pd.DataFrame({plan.column: [None] for plan in encoder.plan.columns})
    transformer = ColumnTransformer(parts.transformers, sparse_threshold=0.0).fit(frame)
    pca = PCA()
    pca.mean_, pca.components_ = np.array(parts.means), np.array(parts.axes).T
    pca.n_components_, pca.n_features_in_ = pca.components_.shape
    pca.explained_variance_ = np.ones(pca.n_components_)
    nearest = KNeighborsClassifier(n_neighbors=1, algorithm="brute").fit(centers.astype(np.float64), numbers)
    scale = [] if projection.shortest is None else [("direction", Normalizer())]
    return Pipeline([("encode", transformer), ("components", pca), *scale, ("cluster", nearest)])


class Output(NamedTuple):
    """The mean and the axis of a column that goes to the PCA."""

    mean: float
    axis: Float64s  # (n_components,)


class PipelineParts:
    """The transformers of a plan's columns, and the mean and axis of each of their outputs."""

    def __init__(
        self, pd: Any, encoder: FeatureEncoder, schema: pa.Schema, mean: Float64s, projection: Projection
    ) -> None:
        self.pd, self.schema, self.day = pd, schema, encoder.plan.reference_day
        self.transformers: list[tuple[str, Any, Any]] = []
        self.means: list[float] = []
        self.axes: list[Float64s] = []
        refused = [repr(plan.column) for plan in encoder.plan.columns if not _is_readable(plan, schema)]
        if refused:
            raise UsageError(
                f"A pipeline of scikit-learn cannot read {natural_list(refused)}: vectors, lists of numbers, lists in "
                "brackets, numbers and dates in texts, dates in digits, and dates with marks of missing values.",
                hint="fit without these columns, or export the model as SQL.",
            )
        n, layout = projection.n_components, encoder.layout
        scales = layout.number_arguments[4]
        dense = zip(scales, mean[layout.dense_columns], projection.dense_axes[:, :n], strict=True)
        values = np.where(layout.hot_values > 0, layout.hot_values.astype(np.float64), 1.0)
        hot = map(Output, mean[layout.hot_columns] / values, projection.hot_axes[:, :n])
        for plan in encoder.plan.columns:
            if isinstance(plan, NumberPlan):
                scale, mean_value, axis = next(dense)
                centre = plan.centre + (mean_value / scale if scale > 0 else 0.0)
                if plan.role == "date":
                    factor = -scale / (DAYS_PER_YEAR * DAY_IN_MILLISECONDS)
                    self._append("date", plan, self._date(plan), [Output(self._milliseconds(centre), factor * axis)])
                else:
                    self._append("number", plan, self._number(plan), [Output(centre, scale * axis)])
                if plan.indicator:
                    self._append("missing", plan, self._is_missing(plan), [next(hot)])
            elif isinstance(plan, CategoryPlan):
                columns = [next(hot) for _ in range(len(plan.categories) + 1 + plan.indicator)]
                self._add_category(plan, columns)
            else:
                columns = [next(hot) for _ in range(len(plan.labels) + 1 + plan.indicator)]
                self._append_column("labels", plan, self._labels(plan), columns[: len(plan.labels)])
                self._append_column("others", plan, self._other_labels(plan), [columns[len(plan.labels)]])
                if plan.indicator:
                    self._append("missing", plan, self._is_missing(plan), columns[-1:])

    def _append(self, what: str, plan: ColumnPlan, steps: list[Any], columns: list[Output]) -> None:
        """Add a transformer of a frame of one column, with the mean and the axis of each of its outputs."""
        from sklearn.pipeline import make_pipeline

        self.transformers.append((f"{what} {len(self.transformers)}", make_pipeline(*steps), [plan.column]))
        self.means += [column.mean for column in columns]
        self.axes += [column.axis for column in columns]

    def _append_column(self, what: str, plan: ColumnPlan, steps: list[Any], columns: list[Output]) -> None:
        """Add a transformer of a series."""
        self._append(what, plan, steps, columns)
        name, transformer, _ = self.transformers.pop()
        self.transformers.append((name, transformer, plan.column))

    def _number(self, plan: NumberPlan) -> list[Any]:
        steps = [*self._without_marks(plan, float), _function(self.pd.DataFrame.astype, dtype="float64")]
        steps.append(_imputer(np.nan, plan.fill))
        if plan.logarithm:
            steps += [_function(np.clip, a_min=0.0, a_max=None), _function(np.log1p)]
        return [*steps, _function(np.clip, a_min=plan.low, a_max=plan.high)]

    def _date(self, plan: NumberPlan) -> list[Any]:
        """Return the steps to milliseconds since 1970-01-01, clipped."""
        return [
            _function(self.pd.DataFrame.squeeze, axis=1),
            _function(self.pd.to_datetime, utc=True),
            _function(np.asarray, dtype="datetime64[ms]"),
            _function(np.ndarray.astype, dtype="float64"),
            _function(np.expand_dims, axis=1),
            _imputer(NO_TIME, self._milliseconds(plan.fill)),
            _function(np.clip, a_min=self._milliseconds(plan.high), a_max=self._milliseconds(plan.low)),
        ]

    def _milliseconds(self, years_ago: float) -> float:
        return (self.day - years_ago * DAYS_PER_YEAR) * DAY_IN_MILLISECONDS

    def _is_missing(self, plan: ColumnPlan) -> list[Any]:
        if not isinstance(plan, LabelPlan):
            return [*self._without_marks(plan, float), _function(self.pd.isna)]
        if plan.separator is None:
            return [_function(self.pd.isna)]
        blank = f"^[{re.escape(STRIPPED)}]*$"
        return [
            _function(self.pd.DataFrame.replace, to_replace=blank, value=np.nan, regex=True),
            *self._without_marks(plan, str),
            _function(self.pd.isna),
        ]

    def _add_category(self, plan: CategoryPlan, columns: list[Output]) -> None:
        """Add a one-hot encoder: of unknown values, of missing ones, and of the categories."""
        from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

        kind, n = self.schema.field(plan.column).type, len(plan.categories)
        missing = columns[n + 1] if plan.indicator else Output(0.0, columns[0].axis)
        outputs = [columns[n], missing, *columns[:n]]
        if pa.types.is_string(kind):
            codes = [UNKNOWN, n, *range(n)]
            values, is_missing = (
                [*plan.categories, MISSING_TEXT],
                _function(self.pd.DataFrame.fillna, value=MISSING_TEXT),
            )
            ordinal = OrdinalEncoder(categories=[values], handle_unknown="use_encoded_value", unknown_value=UNKNOWN)
        else:
            numbers = [category_number(text, kind) for text in plan.categories]
            order = np.argsort(numbers).tolist()
            outputs[2:] = [columns[k] for k in order]
            codes = [UNKNOWN, MISSING, *range(n)]
            is_missing = _function(self.pd.DataFrame.astype, dtype="float64")
            ordinal = OrdinalEncoder(
                categories=[[*sorted(numbers), np.nan]], handle_unknown="use_encoded_value", unknown_value=UNKNOWN,
                encoded_missing_value=MISSING,
            )  # fmt: skip
        marks = self._without_marks(plan, str if pa.types.is_string(kind) else lambda text: category_number(text, kind))
        by_code = np.argsort(codes)
        one_hot = OneHotEncoder(categories=[np.array(codes)[by_code]], sparse_output=False)
        self._append("category", plan, [*marks, is_missing, ordinal, one_hot], [outputs[k] for k in by_code])

    def _lists(self, plan: LabelPlan) -> list[Any]:
        """Return the steps to a series of lists of labels; a missing list has none."""
        marks = [_function(self.pd.Series.replace, to_replace=list(plan.missing), value="")] if plan.missing else []
        steps = [*marks, _function(self.pd.Series.fillna, value="")]
        if plan.separator is None:
            return steps
        ((between, _),), _ = joining_steps(plan.separator)
        ends = f"[{re.escape(STRIPPED)}]+"
        return [*steps, _function(self.pd.Series.apply, func=re.compile(f"^{ends}|{ends}$|{between}").split)]

    def _labels(self, plan: LabelPlan) -> list[Any]:
        from sklearn.feature_extraction.text import CountVectorizer

        vocabulary = {label: k for k, label in enumerate(plan.labels)}
        return [*self._lists(plan), CountVectorizer(analyzer=list, vocabulary=vocabulary, binary=True, lowercase=False)]

    def _other_labels(self, plan: LabelPlan) -> list[Any]:
        """Return the steps to whether there is a label that is not known: all of them fall into one bucket."""
        from sklearn.feature_extraction.text import HashingVectorizer

        known = frozenset([*plan.labels, "", None])
        others = partial(filterfalse, known.__contains__)
        return [
            *self._lists(plan),
            HashingVectorizer(
                n_features=1, analyzer=others, binary=True, norm=None, alternate_sign=False, lowercase=False
            ),
        ]

    def _without_marks(self, plan: ColumnPlan, read: Callable[[Any], Any]) -> list[Any]:
        if not plan.missing:
            return []
        marks = {plan.column: [read(mark) for mark in plan.missing]}
        return [_function(self.pd.DataFrame.replace, to_replace=marks, value=np.nan)]


def _function(function: Any, **arguments: Any) -> Any:
    from sklearn.preprocessing import FunctionTransformer

    return FunctionTransformer(function, kw_args=arguments)


def _imputer(missing: float, fill: float) -> Any:
    from sklearn.impute import SimpleImputer

    # The row that it is fitted with has no values.
    return SimpleImputer(missing_values=missing, strategy="constant", fill_value=fill, keep_empty_features=True)


def _is_readable(plan: ColumnPlan, schema: pa.Schema) -> bool:
    field = schema.field(plan.column)
    if isinstance(plan, LabelPlan):
        is_text = plan.separator is not None or pa.types.is_string(field.type.value_type)
        return is_text and not (plan.separator is not None and is_list(plan.separator))
    if isinstance(plan, CategoryPlan):
        return True
    if plan.role == "date":
        return pa.types.is_temporal(field.type) and not plan.missing
    return vector_name(field) is None and physical_kind(field.type) in ("number", "boolean")

"""FeatureEncoder as a scikit-learn transformer: rows of a data frame as rows of X, alone or within a Pipeline.

    data frame (n_rows, n_columns)  ->  X (n_rows, n_features) float32, names of features;   X  ->  data frame

What an encoder computes is in encoder.py, how it is fitted in fit.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from numbers import Real
from typing import Any, ClassVar, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_array, check_is_fitted

from engine.config import GroupConfig, Role
from engine.errors import UsageError
from engine.execution.threads import map_blocks
from engine.features import fit
from engine.features.encoding_plan import OTHER, CategoryPlan, LabelPlan, NumberPlan
from engine.tables import Table, open_table
from engine.utils.array_types import Float32s

DAY_ZERO = date(1970, 1, 1)
SHARE = 0.5  # of a label or of missing values above which a row has them


class FeatureEncoder(TransformerMixin, BaseEstimator):
    """Encode a data frame as `engine.fit` does: numbers, dates, categories, answers of several choices, missing values.

    Parameters
    ----------
    roles : mapping of column name to role, default=None
        "numeric", "categorical", "multilabel", "boolean", "date" or "ignore"; the others are inferred.
    missing : mapping of column name to sequence, default=None
        Values of a column that stand for missing ones; those of other columns are found, with a warning.
    weights : mapping of column name to float, default=None
        Weights in squared distances; the others have 1, and all are scaled to average 1.
    share_weights : bool, default=True
        Whether columns that say one thing share one weight.
    reference_day : datetime.date, default=None
        Day that dates are counted back from; by default the latest in the frame.
    random_state : int, default=0
        Key of the row sample that quantiles come from.

    Attributes
    ----------
    encoder_ : engine.features.encoder.FeatureEncoder
        The fitted encoder; it decodes X to the units of the table.
    roles_ : dict of column name to role
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        The columns of the frame; x0, x1, … of an array.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "roles": [Mapping, None],
        "missing": [Mapping, None],
        "weights": [Mapping, None],
        "share_weights": ["boolean"],
        "reference_day": [date, None],
        "random_state": [Interval(Real, 0, 2**32, closed="left")],
    }

    def __init__(
        self,
        *,
        roles: Mapping[str, Role] | None = None,
        missing: Mapping[str, Sequence[Any]] | None = None,
        weights: Mapping[str, float] | None = None,
        share_weights: bool = True,
        reference_day: date | None = None,
        random_state: int = 0,
    ) -> None:
        self.roles = roles
        self.missing = missing
        self.weights = weights
        self.share_weights = share_weights
        self.reference_day = reference_day
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any = None) -> FeatureEncoder:
        """Choose roles and encodings by the rows of X.

        Parameters
        ----------
        X : pandas, polars or pyarrow table, or array, of shape (n_rows, n_columns)
        y : ignored

        Raises
        ------
        DataError
            One named subclass per fault of the table.

        Warns
        -----
        ColumnsDroppedWarning
            Naming columns left out because they are constant, all missing or id-like.
        """
        _check_settings(self.roles or {}, self.weights or {})
        table = _open(X)
        fitted = fit.fit_encoder(
            table,
            column_roles=self.roles,
            missing={name: [str(value) for value in values] for name, values in (self.missing or {}).items()},
            groups={name: GroupConfig(columns=(name,), weight=weight) for name, weight in (self.weights or {}).items()},
            reference_day=None if self.reference_day is None else float((self.reference_day - DAY_ZERO).days),
            share_weights=self.share_weights,
            seed=int(self.random_state),
        )
        self.encoder_ = fitted.encoder
        self.roles_ = {role.column: role.role for role in fitted.roles}
        self.feature_names_in_ = np.array(table.schema.names, dtype=object)
        self.n_features_in_ = len(table.schema.names)
        return self

    def transform(self, X: Any) -> Float32s:
        """Return the rows of X, which have the columns of the fit, as float32 (n_rows, n_features)."""
        check_is_fitted(self)
        table = _open(X)
        self.encoder_.check_schema(table.schema)
        blocks = table.blocks(self.encoder_.columns, dictionary_encoded=True)
        return np.concatenate(list(map_blocks(lambda block: self.encoder_.encode(block.rows), blocks)))

    def inverse_transform(self, X: Any) -> pa.Table:
        """Return rows of X (n_rows, n_features) as a table of the encoded columns, in their units.

        Numbers are the typical ones where the encoder clips them; a category is the likeliest one, "other" if that was
        rare in the fit; answers are lists of the labels that a row has more likely than not. Null where a value is
        missing more likely than not, and in columns of no weight.
        """
        check_is_fitted(self)
        X = check_array(X, dtype=[np.float64, np.float32])
        if X.shape[1] != self.encoder_.n_features:
            raise UsageError(f"X has {X.shape[1]} features, but the encoder has {self.encoder_.n_features}.")
        decoded = self.encoder_.decode(X)
        features: dict[str, list[Any]] = {}
        for feature, column in zip(self.encoder_.features, decoded.columns, strict=True):
            features.setdefault(feature.column, []).append(column.combine_chunks())
        return pa.table(
            {plan.column: _decode_column(plan, features[plan.column]) for plan in self.encoder_.plan.columns}
        )

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Return the names of the columns of X: "age", "city: Rome", "city: missing"."""
        check_is_fitted(self)
        return np.array([feature.name for feature in self.encoder_.features], dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []  # X is always float32
        return tags


def _check_settings(roles: Mapping[str, Any], weights: Mapping[str, Any]) -> None:
    """Raise UsageError if a role is none, or a weight is negative or no number."""
    for column, role in roles.items():
        if role not in get_args(Role):
            raise UsageError(
                f"roles: {role!r} of column {column!r} is no role.", hint=f"roles are {', '.join(get_args(Role))}."
            )
    for column, weight in weights.items():
        if (
            isinstance(weight, bool)
            or not isinstance(weight, int | float | np.number)
            or not 0.0 <= float(weight) < np.inf
        ):
            raise UsageError(f"weights: {weight!r} of column {column!r} is no number from 0 on.")


def _open(X: Any) -> Table:
    """Return a data frame, or an array with columns x0, x1, …, as a Table."""
    if isinstance(X, np.ndarray | list | tuple):
        rows = np.asarray(X)
        if rows.ndim != 2:
            raise UsageError(f"X must have two dimensions, but its shape is {rows.shape}.")
        X = pa.table({f"x{j}": pa.array(rows[:, j].tolist()) for j in range(rows.shape[1])})
    return open_table(X)


def _decode_column(plan: NumberPlan | CategoryPlan | LabelPlan, features: list[Any]) -> Any:
    """Return one column of the table, given the decoded columns of its features."""
    n_rows = len(features[0])
    missing = np.zeros(n_rows, np.bool_)
    if plan.indicator:
        missing = _shares(features.pop()) > SHARE
    if isinstance(plan, NumberPlan):
        return pa.array(features[0].to_pylist(), features[0].type, mask=missing)
    shares = np.stack([_shares(column) for column in features], axis=1)
    missing |= np.isnan(shares).any(axis=1)
    if isinstance(plan, CategoryPlan):
        likeliest = np.array([*plan.categories, OTHER], dtype=object)[np.nan_to_num(shares).argmax(axis=1)]
        return pa.array(likeliest, pa.string(), mask=missing)
    rows = [[plan.labels[label] for label in np.flatnonzero(row[:-1] > SHARE)] for row in shares]
    return pa.array([None if gone else row for gone, row in zip(missing, rows, strict=True)], pa.list_(pa.string()))


def _shares(column: Any) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = column.to_numpy(zero_copy_only=False).astype(np.float64)
    return shares

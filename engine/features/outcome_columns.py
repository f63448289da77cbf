"""Warn of columns that are named as an outcome, such as `churned`: clusters made of the answer explain nothing.

names and weights of the used columns  ->  a warning that names those which decide the clusters
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_FILLERS = frozenset(
    ("is", "has", "was", "did", "will", "the", "flag", "ind", "indicator", "yn", "value", "label", "id", "code", "bin",
     "binary", "status", "last", "next", "current", "prev", "previous", "old", "final", "kmeans", "customer", "client",
     "user", "member")
)  # fmt: skip
_OUTCOMES = frozenset(
    ("churn", "churned", "churner", "attrition", "attrited", "target", "outcome", "exited", "converted", "conversion",
     "survived", "prediction", "predicted", "cluster")
)  # fmt: skip
_FORMER = frozenset(["previous", "prev", "old", "last", "current"])  # before "segment": a result of an earlier run


class OutcomeColumnsWarning(UserWarning):
    """Warns of columns that are named as an outcome, and decide the clusters."""


def is_outcome(name: str) -> bool:
    """Tell whether a column is named as an outcome, a target, or the cluster of an earlier run."""
    words = [word.lower() for word in _WORD.findall(name)]
    left = [word for word in words if word not in _FILLERS]
    if left in (["segment"], ["group"]):
        return bool(_FORMER.intersection(words))
    return (len(left) == 1 and left[0] in _OUTCOMES) or words in (["y"], ["label"])


def warn_of_outcome_columns(used: Sequence[str], weights: Mapping[str, float], overrides: Mapping[str, object]) -> None:
    """Warn of outcomes that have a weight; a column whose role the user has set is meant to have it."""
    places = {"x", "y"} if "x" in used else set()  # coordinates
    named = [n for n in used if weights[n] > 0.0 and not (n in overrides or n in places) and is_outcome(n)]
    if named:
        columns = ", ".join(map(repr, named))
        message = f"Named as an outcome, and used to make the clusters like any other column: {columns}."
        remedy = "`describe_only` keeps a column out of the clusters, and in their rules and personas."
        warnings.warn(f"{message} {remedy}", OutcomeColumnsWarning, stacklevel=3)

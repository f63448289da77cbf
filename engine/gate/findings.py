"""What the gate found: measures of every column and of the clusters, and those that are beyond their limits.

checks  ->  Finding: check, column or cluster, value, limit, words
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Check = Literal[
    "psi",
    "js",
    "new_categories",
    "missing",
    "outside",
    "rows",
    "size",
    "size_ratio",
    "common",
    "moved",
    "outliers",
    "deaths",
    "role",
]  # the names of the limits in the configuration, and "role", which has none

# The probability of a false finding in the comparison of two samples of one population. It is shared among all checks
# of a comparison: one false stop in a hundred thousand nights, were the tests exact.
CHANCE = 1e-5


@dataclass(frozen=True)
class Finding:
    """Something that is beyond its limit.

    Attributes
    ----------
    check : str
        The name of the limit.
    value, limit : float
        In its unit: a share, a distance, a ratio, or a number of clusters.
    words : str
        What differs, as a sentence.
    column : str or None
    cluster : int or None
        The number of the cluster.
    """

    check: Check
    value: float
    limit: float
    words: str
    column: str | None = None
    cluster: int | None = None

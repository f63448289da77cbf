"""What every contender of a stage is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
ITERATIONS = 20  # of K-Means, for everybody, from the same centres
MAP_ITERATIONS, EARLY_ITERATIONS, PERPLEXITY = 500, 250, 30.0


@dataclass(frozen=True)
class Task:
    """Rows and where to start; `start` is centres for K-Means, places for t-SNE."""

    X: Array
    start: Array
    n_clusters: int
    n_components: int

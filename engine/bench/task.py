"""The input of a stage of the benchmark, the same for every contender."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
ITERATIONS = 20  # of K-Means, from the same initial centers for every contender
MAP_ITERATIONS, EARLY_ITERATIONS, PERPLEXITY = 500, 250, 30.0  # of t-SNE; EARLY_ITERATIONS with early exaggeration


@dataclass(frozen=True)
class Task:
    """Rows of a stage, and where it starts: `start` holds centers for K-Means, an embedding for t-SNE."""

    X: Array
    start: Array
    n_clusters: int
    n_components: int

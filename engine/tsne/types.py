"""What passes between the parts of t-SNE: how an embedding is made, what it is, and where new rows are put on it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.tsne.centering import Frame


class MapPlan(NamedTuple):
    """How a t-SNE map is made."""

    perplexity: float
    exaggeration: float  # of attraction, in the early iterations
    early_iterations: int
    iterations: int  # all of them, the early ones included
    rate: float | None  # of a quarter of the gradient; None: the number of rows / exaggeration
    least_norm: float  # of the gradient: where it is not longer, the descent ends
    start: str = "given"  # what the places to start from are: "pca", "random", or the caller's own
    momentum: float = 0.8  # after the early iterations, in which it is 0.8
    neighbours: str = "auto"  # "exact", "clusters", or by the number of rows: see engine/tsne/neighbors.py
    frame: Frame = Frame()  # in which they are found


class Map(NamedTuple):
    """A t-SNE map of rows."""

    places: NDArray[np.float32]  # (n_rows, n_components)
    kl_divergence: float  # of P and Q, over all pairs of rows
    n_iter: int
    recall: float = 1.0  # share of the neighbours that were found


class Placed(NamedTuple):
    """Where rows are on a map that others have made."""

    places: NDArray[np.float32]  # (n_rows, 2)
    doubtful: NDArray[np.bool_]  # (n_rows,): the row's neighbours lie far apart, and it is with their medoid

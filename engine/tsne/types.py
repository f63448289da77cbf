"""Types shared by the t-SNE modules: parameters of an embedding, the embedding itself, and placements of new rows."""

from __future__ import annotations

from typing import NamedTuple

from engine.tsne.centering import Centering
from engine.utils.array_types import Bools, Float32s

LEAST_LEARNING_RATE = 4 * 50.0  # of a quarter of the gradient


class EmbeddingPlan(NamedTuple):
    """Parameters of one t-SNE embedding."""

    perplexity: float
    early_exaggeration: float  # factor of the attraction in the first early_exaggeration_iter iterations
    early_exaggeration_iter: int
    max_iter: int  # all iterations, early ones included
    learning_rate: float | None  # multiplies a quarter of the gradient; None: see learning_rate_for
    min_grad_norm: float  # the descent stops when the gradient's norm is not above this
    init: str = "given"  # how the initial embedding was made: "pca", "random", or "given" by the caller
    final_momentum: float = 0.8  # after the early iterations, in which the momentum is 0.8
    neighbors: str = "auto"  # "exact", "clusters", or by the number of rows: see engine/tsne/neighbors.py
    centering: Centering = Centering()  # applied to rows before their neighbors are searched

    def learning_rate_for(self, n_rows: int, exaggeration: float) -> float:
        """Return the learning rate of an iteration with this exaggeration.

        By default it is that of Belkina et al. by the number of rows, but at least scikit-learn's.
        With less, a table of few rows without clusters does not leave the point that early exaggeration draws it to.
        """
        if self.learning_rate is not None:
            return self.learning_rate
        return max(n_rows / exaggeration, LEAST_LEARNING_RATE)


class Embedding(NamedTuple):
    """A t-SNE embedding of rows."""

    embedding: Float32s  # (n_rows, n_components)
    kl_divergence: float  # KL(P || Q) over all pairs of rows, in nats
    n_iter: int
    recall: float = 1.0  # share of the true nearest neighbors that the neighbor search found
    library: str = "numba"  # what computed it: "numba" or "cuML"


class Placement(NamedTuple):
    """Coordinates of new rows in an existing embedding (out-of-sample placement)."""

    coordinates: Float32s  # (n_rows, 2)
    uncertain: Bools  # (n_rows,): the row's neighbors lie far apart in the embedding, so it is put at their medoid

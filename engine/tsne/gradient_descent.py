"""Gradient descent of t-SNE: minimize KL(P || Q) from an initial embedding.

    X (n_rows, n_features), start (n_rows, 1 or 2), a plan  ->  Embedding: coordinates, KL divergence, iterations

Rows are in the order of P. Every iteration computes the repulsive field (engine/tsne/repulsion.py) and then moves rows
block by block: attraction along their edges minus the force of the field divided by Z, then one step. Blocks are fixed
and sums are added in their order, so bits do not depend on the number of threads. Sources: van der Maaten & Hinton,
JMLR 2008; learning rate n / exaggeration: Belkina et al., Nature Communications 2019; momentum and gains as in
openTSNE.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import chain

import numpy as np

from engine.execution.threads import map_blocks, map_shares, one_blas_thread, row_blocks, thread_shares
from engine.kernels.cpu.tsne import exact_repulsion, gradient_step
from engine.kernels.cpu.tsne.affinities import UINT16_ROWS
from engine.kernels.cpu.tsne.grid_repulsion import interpolate_forces
from engine.progress import Advance, Reporter
from engine.tsne.affinities import Affinities, compute_affinities
from engine.tsne.descent_log import log_iteration
from engine.tsne.repulsion import InterpolationGrid
from engine.tsne.types import Embedding, EmbeddingPlan
from engine.utils.array_types import Float32s, Rows

EARLY_MOMENTUM = 0.8
BLOCK_ROWS = 2560  # rows moved at a time: few calls, and two blocks a thread for 10,000 rows
FEW_ROWS = 1024  # up to so many, repulsion is exact, over all pairs: as fast as the smallest grid
CHECK_EVERY = 50  # iterations between checks of the gradient's norm


def embed(X: Rows, start: Float32s, plan: EmbeddingPlan, reporter: Reporter) -> Embedding:
    """Return the t-SNE embedding of the rows of X (n_rows, n_features) from `start` (n_rows, n_components)."""
    with reporter.stage("neighbours", len(X)) as advance:
        P = compute_affinities(X, plan.perplexity, advance, plan.neighbors, plan.centering)
    return embed_affinities(P, start, plan, reporter)


def embed_affinities(P: Affinities, start: Float32s, plan: EmbeddingPlan, reporter: Reporter) -> Embedding:
    """Return the embedding of rows with affinities P from `start` (n_rows, n_components), in the order of the rows."""
    descend_from = descend
    if start.shape[1] > 2:
        from engine.tsne import exact_descent  # imported late: it imports this module, and maps have two dimensions

        descend_from = exact_descent.descend
    with reporter.stage("map", plan.max_iter) as advance:
        result = descend_from(P, start[P.order], plan, advance)
    embedding = np.empty_like(result.embedding)
    embedding[P.order] = result.embedding
    return result._replace(embedding=embedding, recall=P.recall)


def descend(P: Affinities, start: Float32s, plan: EmbeddingPlan, advance: Advance) -> Embedding:
    """Return the embedding reached from `start` by gradient descent on KL(P || Q); rows are in the order of P."""
    state = _DescentState(P, start)
    n_iter = 0
    with one_blas_thread():  # set once, because setting it takes as long as an iteration
        for n_iter in range(1, plan.max_iter + 1):
            early = n_iter <= plan.early_exaggeration_iter
            exaggeration, momentum = (plan.early_exaggeration, EARLY_MOMENTUM) if early else (1.0, plan.final_momentum)
            learning_rate = plan.learning_rate_for(len(start), exaggeration)
            norm = state.step(exaggeration, momentum, learning_rate)
            advance(1)
            if n_iter % CHECK_EVERY == 0:
                log_iteration(n_iter, norm, plan, lambda: kl_divergence(P, state.embedding, state.grid))
                if norm <= plan.min_grad_norm:
                    break
    embedding = state.embedding
    embedding -= embedding.mean(axis=0, dtype=np.float64).astype(np.float32)
    return Embedding(embedding, kl_divergence(P, embedding, state.grid), n_iter)


def kl_divergence(P: Affinities, embedding: Float32s, grid: InterpolationGrid | None = None) -> float:
    """Return KL(P || Q) in nats, Q normalised over all pairs of rows; the memory of `grid` is used if given."""
    xs, ys = _coordinates(embedding)
    z = _exact_z(xs, ys) if len(xs) <= FEW_ROWS else (grid or InterpolationGrid()).compute_field(xs, ys).z

    def sum_log_distances(part: slice) -> float:
        edge_lists = P.neighbor_edges, P.reverse_edges
        return math.fsum(
            exact_repulsion.sum_log_distances(xs, ys, part.start, part.stop, edges) for edges in edge_lists
        )

    edge_sum = P.scale * math.fsum(map_blocks(sum_log_distances, row_blocks(len(xs), BLOCK_ROWS)))
    return P.negative_entropy() + edge_sum + math.log(z)


def _coordinates(embedding: Float32s) -> tuple[Float32s, Float32s]:
    """Return x and y, each contiguous; y is 0 if there is one component."""
    xs = np.ascontiguousarray(embedding[:, 0])
    return xs, np.ascontiguousarray(embedding[:, 1]) if embedding.shape[1] == 2 else np.zeros_like(xs)


def _interleave(xs: Float32s, ys: Float32s) -> Float32s:
    """Return x and y of all rows in turn, padded to the number of rows that attraction may read."""
    n_rows = len(xs)
    points = np.zeros((n_rows if n_rows <= UINT16_ROWS else -(-n_rows // UINT16_ROWS) * UINT16_ROWS, 2), np.float32)
    points[:n_rows, 0], points[:n_rows, 1] = xs, ys
    return points.ravel()


def _exact_z(xs: Float32s, ys: Float32s) -> float:
    return float(exact_repulsion.compute_exact_repulsion(xs, ys, 0, len(xs), np.empty((len(xs), 2), np.float32)))


class _DescentState:
    """Coordinates, velocities and gains of all rows, and the memory of a step."""

    def __init__(self, P: Affinities, start: Float32s) -> None:
        self.P, self.grid = P, InterpolationGrid()
        self.xs, self.ys = _coordinates(start)
        self.on_a_line = start.shape[1] == 1
        self.points = _interleave(self.xs, self.ys)  # at the start of the iteration: attraction reads them
        self._next_points = np.empty_like(self.points)
        self.blocks = list(row_blocks(len(start), BLOCK_ROWS))
        self.velocity = np.zeros((len(start), 2), np.float32)
        self.gains = np.ones((len(start), 2), np.float32)

    @property
    def embedding(self) -> Float32s:
        """Return the coordinates (n_rows, n_components), as a copy."""
        return np.stack([self.xs, self.ys], axis=1)[:, : 1 if self.on_a_line else 2]

    def step(self, exaggeration: float, momentum: float, learning_rate: float) -> float:
        """Move every row once; return the norm of the gradient of KL(P || Q), with its factor of 4."""
        write_forces, z = self._repulsion()

        def move(blocks: slice) -> list[float]:
            return [move_block(part) for part in self.blocks[blocks]]

        def move_block(part: slice) -> float:
            gradient, forces = np.zeros((2, part.stop - part.start, 2), np.float32)
            for edges in (self.P.neighbor_edges, self.P.reverse_edges):
                gradient_step.add_attraction(self.points, part.start, part.stop, edges, gradient)
            write_forces(part, forces)
            gradient_step.combine_gradient(gradient, forces, exaggeration * self.P.scale, z)
            if self.on_a_line:
                gradient[:, 0] = 0.0
            squared_norm: float = gradient_step.update_embedding(
                self.xs, self.ys, part.start, part.stop, gradient, momentum, learning_rate,
                self.velocity, self.gains, self._next_points,
            )  # fmt: skip
            return squared_norm

        squared_norm = math.fsum(chain.from_iterable(map_shares(move, thread_shares(len(self.blocks)))))
        self.points, self._next_points = self._next_points, self.points
        return 4.0 * math.sqrt(squared_norm)

    def _repulsion(self) -> tuple[Callable[[slice, Float32s], None], float]:
        """Return a function that writes the repulsive forces on a slice of rows, and Z, both before the step."""
        if len(self.xs) <= FEW_ROWS:
            all_forces = np.empty((len(self.xs), 2), np.float32)
            z = float(exact_repulsion.compute_exact_repulsion(self.xs, self.ys, 0, len(self.xs), all_forces))
            return lambda part, forces: np.copyto(forces, all_forces[part]), z
        field = self.grid.compute_field(self.xs, self.ys)

        def read(part: slice, forces: Float32s) -> None:
            interpolate_forces(self.xs, self.ys, part.start, part.stop, field.origin, field.potential, forces)

        return read, field.z

"""Gradient descent of t-SNE in any number of dimensions, with the repulsion of all pairs of rows, in float64.

    Affinities, start (n_rows, n_components), a plan  ->  Embedding: coordinates, KL divergence, iterations

For maps of three dimensions, which the grid of repulsion.py has not. The rule of the steps is that of
gradient_descent.py. An iteration takes n_rows^2 steps, in blocks that are fixed, so bits do not depend on threads.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from scipy.sparse import csr_array

from engine.execution.threads import map_blocks, one_blas_thread, row_blocks
from engine.kernels.cpu.tsne.affinities import Edges, decode_weights
from engine.progress import Advance
from engine.tsne.affinities import Affinities
from engine.tsne.descent_log import log_iteration
from engine.tsne.gradient_descent import CHECK_EVERY, EARLY_MOMENTUM
from engine.tsne.types import Embedding, EmbeddingPlan
from engine.utils.array_types import Float32s, Float64s

MOST_ROWS = 10_000  # an iteration over all pairs takes about a second
BLOCK_PAIRS = 1 << 20  # pairs of rows at a time: 8 MiB for each of a few arrays
MIN_GAIN, MAX_STEP_NORM = 0.01, 5.0  # as in kernels/cpu/tsne/gradient_step.py


def descend(P: Affinities, start: Float32s, plan: EmbeddingPlan, advance: Advance) -> Embedding:
    """Return the embedding reached from `start` by gradient descent on KL(P || Q); rows are in the order of P."""
    Y = start.astype(np.float64)
    joint = _joint_probabilities(P)
    velocity, gains = np.zeros_like(Y), np.ones_like(Y)
    n_iter = 0
    with one_blas_thread():
        for n_iter in range(1, plan.max_iter + 1):
            early = n_iter <= plan.early_exaggeration_iter
            exaggeration, momentum = (plan.early_exaggeration, EARLY_MOMENTUM) if early else (1.0, plan.final_momentum)
            rate = plan.learning_rate_for(len(Y), exaggeration)
            repulsion, z = _repulsion(Y)
            gradient = exaggeration * _attraction(joint, Y) - repulsion / z  # a quarter of the gradient
            same = np.sign(velocity) == np.sign(gradient)
            gains = np.where(same, gains * 0.8 + MIN_GAIN, gains + 0.2)
            velocity = momentum * velocity - rate * gains * gradient
            lengths = np.sqrt(np.square(velocity).sum(axis=1, keepdims=True))
            velocity *= np.minimum(1.0, MAX_STEP_NORM / np.maximum(lengths, MAX_STEP_NORM))
            Y += velocity
            advance(1)
            if n_iter % CHECK_EVERY == 0:
                norm = 4.0 * math.sqrt(np.square(gradient).sum())
                log_iteration(n_iter, norm, plan, partial(_kl_divergence, P, joint, Y))
                if norm <= plan.min_grad_norm:
                    break
        Y -= Y.mean(axis=0)
        return Embedding(Y.astype(np.float32), _kl_divergence(P, joint, Y), n_iter)


def _joint_probabilities(P: Affinities) -> csr_array:
    """Return P as a sparse matrix (n_rows, n_rows), in float64."""

    def matrix(edges: Edges) -> csr_array:
        size = int(edges.offsets[-1])
        targets = edges.low[:size].astype(np.int64)
        if len(edges.high):
            targets += edges.high[:size].astype(np.int64) << 16
        weights = decode_weights(edges.weights[:size]).astype(np.float64) * P.scale
        return csr_array((weights, targets, edges.offsets), shape=(len(P.order), len(P.order)))

    return matrix(P.neighbor_edges) + matrix(P.reverse_edges)


def _edge_distances(joint: csr_array, Y: Float64s) -> Float64s:
    """Return 1 + r^2 of every entry of P."""
    rows = np.repeat(np.arange(len(Y)), np.diff(joint.indptr))
    squared: Float64s = 1.0 + np.square(Y[rows] - Y[joint.indices]).sum(axis=1)
    return squared


def _attraction(joint: csr_array, Y: Float64s) -> Float64s:
    """Return sum p (y_i - y_j) / (1 + r^2) of every row."""
    weighted = csr_array((joint.data / _edge_distances(joint, Y), joint.indices, joint.indptr), shape=joint.shape)
    pull: Float64s = weighted.sum(axis=1)[:, None] * Y - weighted @ Y
    return pull


def _repulsion(Y: Float64s) -> tuple[Float64s, float]:
    """Return sum (y_i - y_j) / (1 + r^2)^2 of every row, over all rows, and Z."""
    blocks = row_blocks(len(Y), max(1, BLOCK_PAIRS // len(Y)))
    parts = list(map_blocks(partial(_block_repulsion, Y), blocks))
    return np.concatenate([force for force, _ in parts]), math.fsum(z for _, z in parts)


def _block_repulsion(Y: Float64s, part: slice) -> tuple[Float64s, float]:
    q = np.ones((part.stop - part.start, len(Y)))
    for t in range(Y.shape[1]):
        q += np.square(np.subtract.outer(Y[part, t], Y[:, t]))
    np.reciprocal(q, out=q)
    z = float(q.sum()) - len(q)  # without the row itself
    np.square(q, out=q)
    return q.sum(axis=1)[:, None] * Y[part] - q @ Y, z


def _kl_divergence(P: Affinities, joint: csr_array, Y: Float64s) -> float:
    edge_sum = float((joint.data * np.log(_edge_distances(joint, Y))).sum())
    return P.negative_entropy() + edge_sum + math.log(_repulsion(Y)[1])

"""Gradient descent of a map: from a start to places where KL(P || Q) is low.

    X (n_rows, n_features), start (n_rows, 1 or 2), a plan  ->  Map: places, KL divergence, number of iterations

Rows are in the order of P. Every iteration computes the field of repulsion (engine/tsne/repulsion.py), and moves rows
in blocks: attraction along their edges, the field's force divided by Z, one step. Blocks are fixed and sums are taken
in their order: bits do not depend on threads. Sources: van der Maaten & Hinton, JMLR 2008; learning rate n /
exaggeration: Belkina et al., Nature Communications 2019; steps and gains as in openTSNE.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from engine.backends.protocol import Rows
from engine.execution.threads import in_shares, map_blocks, one_blas_thread, row_blocks, shares_of
from engine.kernels.cpu.tsne import exact_repulsion as tsne_pairs
from engine.kernels.cpu.tsne import gradient_step as tsne_step
from engine.kernels.cpu.tsne.affinities import NARROW
from engine.kernels.cpu.tsne.grid_repulsion import read_forces
from engine.progress import Advance, Reporter
from engine.tsne.affinities import Affinities, affinities_of
from engine.tsne.repulsion import Grid
from engine.tsne.types import Map, MapPlan

Float32s = NDArray[np.float32]

EARLY_MOMENTUM = 0.8
BLOCK_ROWS = 2560  # rows moved at a time: few calls, and two blocks a thread for 10,000 rows
FEW_ROWS = 1024  # up to so many, all pairs are computed: exact, and as fast as the smallest grid
CHECK_EVERY = 50  # iterations between looks at the gradient's norm


def embed(X: Rows, start: Float32s, plan: MapPlan, reporter: Reporter) -> Map:
    """Return the t-SNE map of the rows of X (n_rows, n_features) from `start` (n_rows, n_components)."""
    with reporter.stage("neighbours", len(X)) as advance:
        P = affinities_of(X, plan.perplexity, advance, plan.neighbours, plan.frame)
    with reporter.stage("map", plan.iterations) as advance:
        found = descend(P, start[P.rows], plan, advance)
    places = np.empty_like(found.places)
    places[P.rows] = found.places
    return found._replace(places=places, recall=P.recall)


def descend(P: Affinities, start: Float32s, plan: MapPlan, advance: Advance) -> Map:
    """Move rows, which are in the order of P, from `start` along the gradient of KL(P || Q)."""
    state = _State(P, start)
    done = 0
    with one_blas_thread():  # once, and not in every pass: that takes as long as a pass
        for done in range(1, plan.iterations + 1):
            early = done <= plan.early_iterations
            exaggeration, momentum = (plan.exaggeration, EARLY_MOMENTUM) if early else (1.0, plan.momentum)
            rate = len(start) / exaggeration if plan.rate is None else plan.rate
            norm = state.step(exaggeration, momentum, rate)
            advance(1)
            if done % CHECK_EVERY == 0 and norm <= plan.least_norm:
                break
    places = np.stack([state.xs, state.ys], axis=1)[:, : start.shape[1]]
    places -= places.mean(axis=0, dtype=np.float64).astype(np.float32)
    return Map(places, kl_divergence(P, places, state.grid), done)


def kl_divergence(P: Affinities, places: Float32s, grid: Grid | None = None) -> float:
    """Return KL(P || Q), where Q is normalised over all pairs of rows; `grid` lends its memory."""
    xs, ys = _coordinates(places)
    z = _all_pairs(xs, ys) if len(xs) <= FEW_ROWS else (grid or Grid()).field(xs, ys).z

    def logarithms(part: slice) -> float:
        return math.fsum(tsne_pairs.edge_logarithms(xs, ys, part.start, part.stop, edges) for edges in (P.near, P.far))

    spread = P.scale * math.fsum(map_blocks(logarithms, row_blocks(len(xs), BLOCK_ROWS)))
    return P.entropy() + spread + math.log(z)


def _coordinates(places: Float32s) -> tuple[Float32s, Float32s]:
    """Return x and y, each contiguous; a map of one component is one on the line y = 0."""
    xs = np.ascontiguousarray(places[:, 0])
    return xs, np.ascontiguousarray(places[:, 1]) if places.shape[1] == 2 else np.zeros_like(xs)


def _pairs(xs: Float32s, ys: Float32s) -> Float32s:
    """Return x and y of all rows in turn, and room for as many rows as attraction may look at."""
    n_rows = len(xs)
    pairs = np.zeros((n_rows if n_rows <= NARROW else -(-n_rows // NARROW) * NARROW, 2), np.float32)
    pairs[:n_rows, 0], pairs[:n_rows, 1] = xs, ys
    return pairs.ravel()


def _all_pairs(xs: Float32s, ys: Float32s) -> float:
    return float(tsne_pairs.repel(xs, ys, 0, len(xs), np.empty((len(xs), 2), np.float32)))


class _State:
    """Places, momentum and gains of all rows, and the memory of a step."""

    def __init__(self, P: Affinities, start: Float32s) -> None:
        self.P, self.grid = P, Grid()
        self.xs, self.ys = _coordinates(start)
        self.on_a_line = start.shape[1] == 1
        self.places = _pairs(self.xs, self.ys)  # what rows see of each other
        self._next_places = np.empty_like(self.places)
        self.blocks = list(row_blocks(len(start), BLOCK_ROWS))
        self.velocity = np.zeros((len(start), 2), np.float32)
        self.gains = np.ones((len(start), 2), np.float32)

    def step(self, exaggeration: float, momentum: float, rate: float) -> float:
        """Move every row once; return the norm of the gradient, which is KL's (with its factor of 4)."""
        write_forces, z = self._repulsion()

        def move(blocks: slice) -> list[float]:
            return [move_block(part) for part in self.blocks[blocks]]

        def move_block(part: slice) -> float:
            gradient, forces = np.zeros((2, part.stop - part.start, 2), np.float32)
            for edges in (self.P.near, self.P.far):
                tsne_step.attract(self.places, part.start, part.stop, edges, gradient)
            write_forces(part, forces)
            tsne_step.combine(gradient, forces, exaggeration * self.P.scale, z)
            if self.on_a_line:
                gradient[:, 0] = 0.0
            square: float = tsne_step.descend(
                self.xs, self.ys, part.start, part.stop, gradient, momentum, rate,
                self.velocity, self.gains, self._next_places,
            )  # fmt: skip
            return square

        squares = math.fsum(chain.from_iterable(in_shares(move, shares_of(len(self.blocks)))))
        self.places, self._next_places = self._next_places, self.places
        return 4.0 * math.sqrt(squares)

    def _repulsion(self) -> tuple[Callable[[slice, Float32s], None], float]:
        """Return what writes the repulsive forces on some rows, before they move, and Z."""
        if len(self.xs) <= FEW_ROWS:
            pushes = np.empty((len(self.xs), 2), np.float32)
            z = float(tsne_pairs.repel(self.xs, self.ys, 0, len(self.xs), pushes))
            return lambda part, forces: np.copyto(forces, pushes[part]), z
        field = self.grid.field(self.xs, self.ys)

        def read(part: slice, forces: Float32s) -> None:
            read_forces(self.xs, self.ys, part.start, part.stop, field.origin, field.potential, forces)

        return read, field.z

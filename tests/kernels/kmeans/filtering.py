"""Screen rows as a pass does, at a level of precision: what several tests of kernels need."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from engine.kernels.cpu.kmeans import filter as certify
from engine.kernels.cpu.kmeans import lloyd
from engine.kernels.cpu.kmeans import quantize as codes
from engine.kernels.cpu.kmeans import quantized_centers as screen

LEVELS = range(codes.lowest_level(64), codes.FLOATS + 1)


class Screened(NamedTuple):
    coded: Any
    frame: Any
    scr: Any
    desk: Any


def screened(X: Any, centres: Any, level: int, *, stored: bool = True) -> Screened:
    """Prepare rows and centres; `stored` keeps the codes of all rows, as a fit does."""
    frame = codes.frame_of(X, level)
    coded = codes.empty_coded(len(X) if stored else 0, X.shape[1], level)
    if len(coded.codes):
        codes.encode(X, np.arange(len(X)), len(X), frame, *coded)
    scr = screen.screen(centres, frame, level)
    return Screened(coded, frame, scr, certify.desk_for(scr, coded, X.shape[1]))


class Passed(NamedTuple):
    labels: Any
    slack: Any
    sums: Any
    masses: Any
    changed: int
    screened: int
    opened: int
    defined: int


def passed(X: Any, centres: Any, level: int, *, weights: Any = None, grid: Any = None, stored: bool = True) -> Passed:
    """Make one pass over rows that are in no cluster yet."""
    n_clusters, n_features = centres.shape
    ready = screened(X, centres, level, stored=stored)
    labels, slack = np.full(len(X), -1, np.int32), np.full(len(X), -np.inf, np.float32)
    sums, masses = np.zeros(centres.shape, np.int64), np.zeros(n_clusters, np.int64)
    shift, scale, mass_scale = grid or (np.zeros(n_features), np.zeros(n_features), 1.0)
    still = np.zeros(n_clusters, np.float32)
    counts = lloyd.lloyd_pass(
        X, np.empty(0) if weights is None else weights, ready.coded, ready.frame, ready.scr, still, still,
        np.empty(0, np.int32), shift, scale, mass_scale, labels, slack, sums, masses, ready.desk,
    )  # fmt: skip
    return Passed(labels, slack, sums, masses, *counts)


@numba.njit
def screen_only(X: Any, coded: Any, frame: Any, scr: Any, count: int, desk: Any) -> None:
    """Screen the rows of a desk, and settle none."""
    certify.screen_rows(X, coded, frame, scr, count, desk)

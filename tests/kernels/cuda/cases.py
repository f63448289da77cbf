"""Rows that a pass of the Triton kernels is tried on: random ones, and ones made to be hard."""

from __future__ import annotations

import numpy as np

from tests.kernels.cuda.interpreted import Case


def mixture(n: int, d: int, k: int, seed: int = 0, **options: object) -> Case:
    """Return rows of a mixture whose components overlap, with labels of which some are right and some are -1."""
    random = np.random.default_rng(seed)
    centers = random.normal(size=(k, d)).astype(np.float32)
    chosen = random.integers(0, k, n)
    X = (centers[chosen] + random.normal(size=(n, d))).astype(np.float32)
    labels = np.where(random.random(n) < 0.5, chosen, random.integers(-1, k, n)).astype(np.int32)
    return Case(X, centers, labels, shift=X.mean(axis=0, dtype=np.float64), **options)  # type: ignore[arg-type]


def ties() -> Case:
    """Return rows halfway between two centers, exactly: open in all of three launches, and the lower center wins."""
    centers = np.random.default_rng(1).integers(-3, 4, (20, 16)).astype(np.float32)
    pairs = [(i, j) for i in range(20) for j in range(i + 1, 20)]
    X = np.array([(centers[i] + centers[j]) / 2 for i, j in pairs], np.float32)
    return Case(X, centers, np.zeros(len(X), np.int32), list_rows=75)


def near_ties() -> Case:
    """Return rows that differ from a tie by less than any score can tell, far from zero."""
    random = np.random.default_rng(2)
    centers = random.integers(-3, 4, (5, 16)).astype(np.float32) + 100
    X = ((centers[0] + centers[1]) / 2 + 1e-5 * random.normal(size=(200, 16))).astype(np.float32)
    return Case(X, centers, np.full(200, -1, np.int32))


def close_calls() -> Case:
    """Return rows whose two best centers differ by about what bfloat16 numbers round away."""
    random = np.random.default_rng(3)
    centers = random.normal(size=(24, 32)).astype(np.float32)
    pairs = random.integers(0, 24, (400, 2))
    apart = (centers[pairs[:, 1]] - centers[pairs[:, 0]]) * (0.5 + random.normal(size=(400, 1)) * 2e-3)
    X = (centers[pairs[:, 0]] + apart).astype(np.float32)
    return Case(X, centers, random.integers(-1, 24, 400).astype(np.int32), least_certified=0.3)


def far_centers() -> Case:
    """Return rows near zero and centers far from them: what pads the last tile of centers lies nearest."""
    random = np.random.default_rng(4)
    X = (0.01 * random.normal(size=(150, 16))).astype(np.float32)
    centers = random.integers(-3, 4, (5, 16)).astype(np.float32) + 20
    return Case(X, centers, np.full(150, 2, np.int32), least_certified=0.9)


def halves() -> Case:
    """Return rows whose terms in fixed point end in exactly one half: they are rounded to even."""
    random = np.random.default_rng(5)
    centers = random.integers(-8, 9, (6, 16)).astype(np.float32)
    X = (centers[random.integers(0, 6, 130)] + random.integers(-3, 4, (130, 16)) / 4).astype(np.float32)
    return Case(X, centers, np.full(130, -1, np.int32), scale=2.0)


def weighted() -> Case:
    """Return rows with weights, summed in fixed point."""
    case = mixture(170, 20, 7, seed=6, mass_scale=2.0**10)
    case.weights = np.random.default_rng(7).uniform(0.1, 3.0, 170)
    return case


def one_center() -> Case:
    """Return rows with a single center: there is no second one to be compared with."""
    return mixture(70, 3, 1, seed=8, least_certified=1.0)


def outside_float32() -> Case:
    """Return centers of which one lies so far out that its score is no float32 number: nothing can be certified."""
    case = mixture(80, 5, 4, seed=14)
    case.centers[2] *= np.float32(1e25)
    return case


CASES = {
    "a mixture": lambda: mixture(330, 64, 20, least_certified=0.98),
    "several launches": lambda: mixture(330, 12, 6, seed=15, list_rows=150, least_certified=0.98),
    "a center that is far out": outside_float32,
    "a frame that is not sound": lambda: mixture(70, 6, 5, seed=16, is_sound=False),
    "many tiles of centers": lambda: mixture(129, 48, 150, seed=9, tiles={"CENTERS": 32}, least_certified=0.95),
    "blocks of features": lambda: mixture(130, 70, 33, seed=10, tiles={"FEATURES": 32}, least_certified=0.95),
    "one row more than a tile": lambda: mixture(65, 5, 17, seed=11),
    "one row": lambda: mixture(1, 1, 2, seed=12),
    "ties": ties,
    "near ties": near_ties,
    "close calls": close_calls,
    "far centers": far_centers,
    "halves": halves,
    "weights": weighted,
    "one center": one_center,
}

"""Profiles along the line between two centers against plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.kernels.cpu.kmeans.valley_profiles import BIN, FIRST, N_BINS, tube_profiles


def profiles(X: Any, labels: Any, quantiles: list[float]) -> Any:
    """Count with the kernel, between the means of labels 0 and 1."""
    a, b = (X[labels == c].mean(axis=0) for c in (0, 1))
    counts = np.zeros((len(quantiles), N_BINS), np.int64)
    tube_profiles(
        X @ a, X @ b, np.square(X).sum(axis=1), float(a @ a), float(b @ b), float(np.square(b - a).sum()),
        labels.astype(np.int32), 0, 1, np.array(quantiles), counts,
    )  # fmt: skip
    return counts


def profiles_by_loops(X: Any, labels: Any, quantiles: list[float]) -> Any:
    """Count row by row; a row of either cluster is placed as if its center had been computed without it."""
    centers = [X[labels == c].mean(axis=0) for c in (0, 1)]
    sizes = [(labels == c).sum() for c in (0, 1)]
    step = centers[1] - centers[0]
    squared_length = step @ step
    along, away = [], []
    for row, label in zip(X, labels, strict=True):
        t = (row - centers[0]) @ step / squared_length
        away.append(np.square(row - centers[0] - t * step).sum())
        if label in (0, 1):
            pull = np.square(row - centers[label]).sum() / squared_length / (sizes[label] - 1)
            t += pull if label == 0 else -pull
        along.append(t)
    away = np.array(away)
    counts = np.zeros((len(quantiles), N_BINS), np.int64)
    for tube, quantile in enumerate(quantiles):
        radius = max(np.sort(away[labels == c])[int(quantile * (sizes[c] - 1))] for c in (0, 1))
        for t, distance in zip(along, away, strict=True):
            if distance <= radius + 1e-12 and 0 <= (t - FIRST) / BIN < N_BINS:
                counts[tube, int((t - FIRST) / BIN)] += 1
    return counts


def test_profiles_are_those_of_plain_loops() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(3, size=200)
    X = random.normal(size=(200, 4)) + 3.0 * np.eye(4)[labels]
    counts = profiles(X, labels, [0.8, 0.4])
    expected = profiles_by_loops(X, labels, [0.8, 0.4])
    assert np.abs(counts - expected).sum() <= 4  # rows on the edge of a tube or bin may fall on either side
    assert counts.sum() > 100


def test_a_cluster_of_three_rows_has_no_profile() -> None:
    X = np.random.default_rng(0).normal(size=(20, 2))
    assert profiles(X, (np.arange(20) >= 3).astype(int), [0.8]).sum() == 0

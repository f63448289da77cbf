"""Run a pass of the Triton kernels in Triton's interpreter, and hold what it returns against plain loops."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests import reference

GUARD = 96  # rows behind the last one that nothing may read as rows or write to
POISON = 7.25e3  # what they hold


@dataclass
class Case:
    """Rows, centers and labels of one pass, and the fixed point in which it sums."""

    X: NDArray[np.float32]
    centers: NDArray[np.float32]
    labels: NDArray[np.int32]
    weights: NDArray[np.float64] | None = None
    shift: NDArray[np.float64] | None = None
    scale: float = 2.0**20
    mass_scale: float = 1.0
    tiles: dict[str, int] = field(default_factory=dict)  # ROWS, CENTERS, FEATURES
    n_copies: int = 2
    least_certified: float = 0.0  # share of rows that the certificate has to decide


@dataclass
class Outcome:
    """What a pass returned."""

    labels: NDArray[np.int32]
    labels_certified: NDArray[np.int32]  # after label_rows alone
    opened: NDArray[np.int64]
    n_changed: int
    sums: NDArray[np.int64]
    masses: NDArray[np.int64]


def up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def run(case: Case, lloyd: ModuleType, certificate: ModuleType) -> Outcome:
    """Run both kernels over all rows; arrays have guard rows behind the last one."""
    (n, d), k = case.X.shape, len(case.centers)
    rows, width = case.tiles.get("ROWS", 64), case.tiles.get("CENTERS", 16)
    features = case.tiles.get("FEATURES", max(16, 1 << (d - 1).bit_length()))
    n_blocks, n_padded = -(-d // features), up(k, width)
    shift = np.zeros(d) if case.shift is None else case.shift
    frame_shift = shift.astype(np.float32)
    factor = 0.25
    ready = certificate.prepare_centers(
        np, case.centers, frame_shift.astype(np.float64), factor, n_padded, features * n_blocks
    )
    bound = certificate.error_bound(d)

    def put(array: Any) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array))

    def bfloat16(bits: Any) -> torch.Tensor:
        return put(bits.view(np.int16)).view(torch.bfloat16)

    X = put(np.concatenate([case.X, np.full((GUARD, d), POISON, np.float32)]))
    labels = put(np.concatenate([case.labels, np.full(GUARD, -7, np.int32)]))
    weighted = case.weights is not None
    weights = put(np.concatenate([case.weights, np.full(GUARD, POISON)]) if weighted else np.empty(0))
    sums = torch.zeros(case.n_copies, k, d, dtype=torch.int64)
    masses = torch.zeros(case.n_copies, k, dtype=torch.int64)
    opened, counts = torch.full((n + GUARD,), -1, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
    scale, exact_shift = put(np.full(d, case.scale)), put(shift)
    lloyd.label_rows[(-(-n // rows),)](
        X, weights, bfloat16(ready.high), bfloat16(ready.low), put(ready.offsets), put(ready.blurs), exact_shift,
        put(frame_shift), scale, labels, sums, masses, opened, counts, 0, n, k, d, factor, bound.per_row,
        certificate.FLOOR, case.mass_scale, case.n_copies, ROWS=rows, CENTERS=width, FEATURES=features,
        FEATURE_BLOCKS=n_blocks, WEIGHTED=weighted, WIDEN=True,
    )  # fmt: skip
    certified, n_open = labels.numpy()[:n].copy(), int(counts[0])
    transposed = np.zeros((d, n_padded), np.float32)
    transposed[:, :k] = case.centers.T
    lloyd.refine_rows[(3,)](
        X, weights, put(transposed), exact_shift, scale, labels, sums, masses, opened, counts, k, d, n_padded,
        case.mass_scale, case.n_copies, ROWS=16, CENTERS=width, WEIGHTED=weighted,
    )  # fmt: skip
    assert (labels.numpy()[n:] == -7).all(), "a label behind the last row was written"
    return Outcome(
        labels.numpy()[:n], certified, np.sort(opened.numpy()[:n_open]), int(counts[1]), sums.numpy().sum(axis=0),
        masses.numpy().sum(axis=0),
    )  # fmt: skip


def check(case: Case, lloyd: ModuleType, certificate: ModuleType) -> None:
    """Raise AssertionError unless a pass does what plain loops do."""
    found = run(case, lloyd, certificate)
    n, d = case.X.shape
    X, centers = case.X.astype(np.float64).tolist(), case.centers.astype(np.float64).tolist()
    expected = np.array(reference.labels(X, centers), np.int32)
    assert len(np.unique(found.opened)) == len(found.opened), "a row is twice in the list of open rows"
    assert ((found.opened >= 0) & (found.opened < n)).all(), "the list of open rows holds what is no row"
    decided = np.setdiff1d(np.arange(n), found.opened)
    wrong = decided[found.labels_certified[decided] != expected[decided]]
    assert len(wrong) == 0, f"{len(wrong)} certified labels are wrong"
    np.testing.assert_array_equal(found.labels_certified[found.opened], case.labels[found.opened])
    np.testing.assert_array_equal(found.labels, expected)
    share = len(decided) / n
    assert share >= case.least_certified, f"only {share:.3f} of the rows were certified"
    assert found.n_changed == int((expected != case.labels).sum())
    shift = [0.0] * d if case.shift is None else case.shift.tolist()
    weights = [1.0] * n if case.weights is None else case.weights.tolist()
    sums, masses = np.zeros_like(found.sums), np.zeros_like(found.masses)
    for i in range(n):
        before, after = int(case.labels[i]), int(expected[i])
        if before == after:
            continue
        terms = [reference.fixed_point(X[i][t], shift[t], weights[i], case.scale) for t in range(d)]
        mass = round(weights[i] * case.mass_scale)
        for cluster, sign in ((after, 1), (before, -1)):
            if cluster >= 0:
                sums[cluster] += np.array(terms) * sign
                masses[cluster] += mass * sign
    np.testing.assert_array_equal(found.sums, sums)
    np.testing.assert_array_equal(found.masses, masses)

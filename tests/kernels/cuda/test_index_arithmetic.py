"""Rows far beyond 2^31 values give what the same rows give at the beginning of a table; no memory lies before them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("triton", reason="Triton is not installed: make test-gpu-kernels has an environment with it")

from triton.runtime.errors import InterpreterError

from engine.kernels.cuda import build
from engine.kernels.cuda.kmeans import fused_pass
from engine.kernels.cuda.launch import Launcher
from tests.gpu.strict import to_numpy
from tests.kernels.cuda.cases import mixture, ties
from tests.kernels.cuda.interpreted import Case, Sources, uncompiled_kernels
from tests.kernels.cuda.memory import DeviceModule, OutOfBoundsError
from tests.kernels.cuda.stand_in import InterpretedCuda
from tests.kernels.cuda.test_fused_lloyd import load

CASES = {
    "rows beyond 2^31 values": (lambda: mixture(130, 16, 5), (1 << 31) // 16 + 64),
    "rows beyond 2^32 values": (lambda: mixture(130, 16, 5), (1 << 32) // 16 + 64),
    "a row that begins before 2^31 values and ends behind": (lambda: mixture(130, 6, 5), (1 << 31) // 6 - 63),
    "more than 2^31 rows": (lambda: mixture(130, 1, 3), (1 << 31) + 64),
    "more than 2^33 rows": (ties, (1 << 33) + 64),
    "weights": (lambda: weights_of(mixture(130, 16, 5)), (1 << 31) + 64),
    "blocks of features": (lambda: mixture(70, 40, 5, tiles={"FEATURES": 16}), (1 << 31) // 40 + 1000),
}
# Places where an index is a product of a row: in 32 bits, each is wrong beyond 2^31 values.
MUTANTS = {
    "the row": (
        "row = first_row + program * ROWS + tl.arange(0, ROWS)",
        "row = (first_row + program * ROWS + tl.arange(0, ROWS)).to(tl.int32)",
    ),
    "the open row": (
        "row = first_row + number\n        lowest",
        "row = (first_row + number).to(tl.int32)\n        lowest",
    ),
    "values that are scored": (
        "x = tl.load(X + row[:, None] * n_features + feature[None, :], mask=live",
        "x = tl.load(X + row.to(tl.int32)[:, None] * n_features + feature[None, :], mask=live",
    ),
    "values that are summed": (
        "x = tl.load(X + row[:, None] * n_features + feature[None, :], mask=moved",
        "x = tl.load(X + row.to(tl.int32)[:, None] * n_features + feature[None, :], mask=moved",
    ),
    "values of open rows": ("tl.load(X + row * n_features + t", "tl.load(X + row.to(tl.int32) * n_features + t"),
}


def weights_of(case: Case) -> Case:
    case.weights, case.mass_scale = np.random.default_rng(7).uniform(0.1, 3.0, len(case.X)), 2.0**10
    return case


def launch_at(first_row: int, case: Case, sources: Sources) -> dict[str, Any]:
    """Return all that a launch writes whose first row is `first_row` of a table."""
    (n, d), k, weighted = case.X.shape, len(case.centers), case.weights is not None
    features = case.tiles.get("FEATURES", max(16, 1 << (d - 1).bit_length()))
    tiles = fused_pass.Tiles(64, 16, features, -(-d // features))
    kernels, xp = uncompiled_kernels(*tiles, weighted), DeviceModule()
    device = fused_pass.FusedDevice(xp, kernels, Launcher(InterpretedCuda(kernels, sources.lloyd, xp)).launch, 1)
    shift = np.zeros(d) if case.shift is None else case.shift
    centers = fused_pass.prepare_centers(device, case.centers, shift.astype(np.float32), 0.25, True, tiles)
    labels = xp.virtual(case.labels.copy(), first_row)
    weights = xp.virtual(case.weights, first_row) if weighted else xp.empty(0)
    written = {
        "Sums": xp.zeros((2, k, d), np.int64), "Masses": xp.zeros((2, k), np.int64), "Open": xp.zeros(n, np.int32),
        "Changed": xp.zeros(n, np.int32), "Counts": xp.zeros(2, np.int64),
    }  # fmt: skip
    arguments = fused_pass.copy_to_device(xp, {"Shift": shift, "Scale": np.full(d, case.scale)}) | written
    arguments |= {
        "X": xp.virtual(case.X, first_row * d), "Labels": labels, "Weights": weights, "first_row": first_row,
        "n_clusters": k, "n_features": d, "mass_scale": case.mass_scale, "n_copies": 2,
    }  # fmt: skip
    fused_pass.launch_kernels(device, centers, arguments, first_row, first_row + n, weighted)
    return {name: to_numpy(array) for name, array in written.items()} | {"Labels": labels.values}


@pytest.mark.parametrize("name", CASES)
def test_rows_far_from_the_first_are_as_those_at_the_beginning(name: str) -> None:
    make, first_row = CASES[name]
    found, expected = (launch_at(first, make(), Sources()) for first in (first_row, 0))
    assert expected["Counts"][1] > 0
    for array in expected:
        np.testing.assert_array_equal(found[array], expected[array])


@pytest.mark.parametrize("name", MUTANTS)
def test_an_index_in_32_bits_is_caught(name: str, tmp_path: Path) -> None:
    before, after = MUTANTS[name]
    text = Path(Sources().lloyd.__file__ or "").read_text()
    assert text.count(before) == 1
    path = tmp_path / "lloyd.py"
    path.write_text(text.replace(before, after))
    mutant = Sources()._replace(lloyd=load(path, "mutant_of_an_index"))
    launch_at(0, ties(), mutant)
    with pytest.raises(InterpreterError, match=OutOfBoundsError.__name__):
        launch_at((1 << 33) + 64, ties(), mutant)


def test_a_first_row_that_does_not_fit_in_its_parameter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(build.SCALARS["label_rows"], "first_row", "i32")
    with pytest.raises(OverflowError):
        launch_at((1 << 31) + 64, mixture(65, 1, 3), Sources())

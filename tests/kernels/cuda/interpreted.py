"""Run a pass of the fused kernels in Triton's interpreter, launched as on a GPU; hold it against plain loops."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.kernels.cuda import build, launch
from engine.kernels.cuda.kmeans import certificate, fused_pass, lloyd
from engine.kernels.cuda.launch import CompiledKernel
from tests import reference
from tests.gpu.strict import to_numpy
from tests.kernels.cuda.memory import DeviceModule
from tests.kernels.cuda.stand_in import InterpretedCuda

GUARD_ROWS = 96  # rows behind the last one that nothing may read as rows or write to
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
    list_rows: int = fused_pass.LIST_ROWS  # of a launch
    is_sound: bool = True
    least_certified: float = 0.0  # share of rows that the certificate has to decide


class Sources(NamedTuple):
    """The modules that make a pass, of which one may be a mutant."""

    lloyd: ModuleType = lloyd
    certificate: ModuleType = certificate
    fused_pass: ModuleType = fused_pass
    launch: ModuleType = launch


@dataclass
class Outcome:
    """What a pass returned."""

    labels: NDArray[np.int32]
    labels_certified: NDArray[np.int32]  # after label_rows alone
    opened: NDArray[np.int64]
    n_changed: int
    sums: NDArray[np.int64]
    masses: NDArray[np.int64]
    launched: list[str]


def uncompiled_kernels(rows: int, centers: int, features: int, n_blocks: int, weighted: bool) -> tuple[Any, ...]:
    """Return what a launch knows of kernels of any sizes, which only the interpreter runs."""
    sizes = {"ROWS": rows, "CENTERS": centers, "FEATURES": features, "FEATURE_BLOCKS": n_blocks}
    kernels = []
    for entry, constants in (("label_rows", sizes), ("refine_rows", {"ROWS": 16, "CENTERS": min(centers, 16)})):
        arrays = [(name, f"*{kind}") for name, kind in build.POINTERS[entry].items()]
        parameters = (*arrays, *build.SCALARS[entry].items(), *2 * [(launch.SCRATCH, "*i8")])
        known = constants | {"WEIGHTED": weighted}
        kernels.append(CompiledKernel(entry, entry, known, 128, 1024, parameters, f"no cubin of {entry}".encode()))
    return tuple(kernels)


def run(case: Case, sources: Sources, kernels: tuple[CompiledKernel, ...] | None = None) -> Outcome:
    """Run a pass; without `kernels`, with those of the case's tiles. Arrays have guard rows behind the last one."""
    (n, d), weighted = case.X.shape, case.weights is not None
    tiles = None
    if kernels is None:
        features = case.tiles.get("FEATURES", max(16, 1 << (d - 1).bit_length()))
        tiles = fused_pass.Tiles(case.tiles.get("ROWS", 64), case.tiles.get("CENTERS", 16), features, -(-d // features))
        kernels = uncompiled_kernels(*tiles, weighted)
    xp = DeviceModule()
    cuda = InterpretedCuda(kernels, sources.lloyd, xp)
    launcher = sources.launch.Launcher(cuda)
    opened, certified = [], case.labels.copy()

    def launch_and_look(kernel: CompiledKernel, n_programs: int, arguments: dict[str, Any]) -> None:
        launcher.launch(kernel, n_programs, arguments)
        if kernel.entry == "label_rows":
            assert arguments["per_row"] == certificate.error_bound(d).per_row
            n_open, first = int(to_numpy(arguments["Counts"])[0]), arguments["first_row"]
            opened.append(to_numpy(arguments["Open"])[:n_open] + np.int64(first))
            rows = slice(first, first + case.list_rows)
            certified[rows] = to_numpy(arguments["Labels"])[rows]

    device = fused_pass.FusedDevice(xp, kernels, launch_and_look, 1)
    X = xp.asarray(np.concatenate([case.X, np.full((GUARD_ROWS, d), POISON, np.float32)]))
    labels = xp.asarray(np.concatenate([case.labels, np.full(GUARD_ROWS, -7, np.int32)]))
    weights = xp.empty(0)
    if case.weights is not None:
        weights = xp.asarray(np.concatenate([case.weights, np.full(GUARD_ROWS, POISON)]))
    shift = np.zeros(d) if case.shift is None else case.shift
    sources.fused_pass.certificate = sources.certificate  # type: ignore[attr-defined]
    try:
        centers = sources.fused_pass.prepare_centers(
            device, case.centers, shift.astype(np.float32), 0.25, case.is_sound, tiles
        )
        point = fused_pass.FixedPoint(shift, np.full(d, case.scale), case.mass_scale)
        result = sources.fused_pass.run_pass(
            device, X[:n], weights[: n * weighted], labels[:n], centers, point, case.list_rows
        )
    finally:
        sources.fused_pass.certificate = certificate  # type: ignore[attr-defined]
    on_device, on_host = to_numpy(labels), case.labels.copy()
    assert (on_device[n:] == -7).all(), "a label behind the last row was written"
    for rows, values in result.changes:
        on_host[rows] = values
    np.testing.assert_array_equal(on_host, on_device[:n], "the host was told of other changes than were made")
    assert result.n_open == sum(map(len, opened))
    return Outcome(
        on_host, certified, np.sort(np.concatenate(opened)), result.n_changed, result.sums, result.masses,
        cuda.launched,
    )  # fmt: skip


def check(case: Case, sources: Sources, kernels: tuple[CompiledKernel, ...] | None = None) -> None:
    """Raise AssertionError unless a pass does what plain loops do."""
    found = run(case, sources, kernels)
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

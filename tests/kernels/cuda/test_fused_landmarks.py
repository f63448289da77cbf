"""Landmarks found by the Triton kernels in the interpreter: the bits of the definition, and mutants caught."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest

pytest.importorskip("triton", reason="Triton is not installed: make test-gpu-kernels has an environment with it")

from engine.kernels.cuda import build
from engine.kernels.cuda.kmeans import certificate
from engine.kernels.cuda.kmeans.fused_pass import MAX_SQUARED_NORM, FusedDevice
from engine.kernels.cuda.launch import SCRATCH, CompiledKernel, Launcher, read_kernels
from engine.kernels.cuda.tsne import fused_neighbors, placement
from tests.gpu.strict import to_numpy
from tests.kernels.arrays.test_landmark_neighbors import hard_rows, leaves_around, neighbors_by_definition
from tests.kernels.cuda.landmark_mutants import INDEX_MUTANTS, LANDMARK_MUTANTS
from tests.kernels.cuda.memory import DeviceModule, OutOfBoundsError
from tests.kernels.cuda.stand_in import InterpretedCuda
from tests.kernels.cuda.test_fused_lloyd import load

LAST_MIN = """
@triton.jit
def _last_min(values):
    lowest = tl.min(values, 1)
    column = tl.arange(0, values.shape[1])
    return lowest, tl.max(tl.where(values == lowest[:, None], column[None, :], 0), 1)
"""


class Sources(NamedTuple):
    """The modules that make a search, of which one may be a mutant."""

    placement: ModuleType = placement
    fused_neighbors: ModuleType = fused_neighbors


class Case(NamedTuple):
    """Rows, their homes, landmarks, and positions of landmarks around every home."""

    rows: Any
    homes: Any
    landmarks: Any
    around: Any
    k: int = 16


def normal(n_rows: int, n_landmarks: int, d: int, n_homes: int, width: int, k: int = 16, seed: int = 0) -> Case:
    """Return rows and landmarks of one normal distribution; homes are uneven, and some have no rows."""
    random = np.random.default_rng(seed)
    rows, landmarks = (random.normal(size=(n, d)).astype(np.float32) for n in (n_rows, n_landmarks))
    homes = (random.integers(0, n_homes, n_rows) ** 2 % n_homes).astype(np.int32)
    return Case(rows, homes, landmarks, leaves_around(n_landmarks, n_homes, width), k)


def hard(kind: str) -> Case:
    landmarks, rows = hard_rows(kind)
    return Case(rows[:70], (np.arange(70) % 5 // 4 * 2).astype(np.int32), landmarks, leaves_around(300, 4, 256))


def far_away() -> Case:
    """Return rows far from all landmarks: the error bound excludes next to nothing."""
    case = normal(20, 200, 8, 2, 192)
    return case._replace(rows=case.rows + np.float32(3e4))


def far_along_an_axis() -> Case:
    """Return rows far out on an axis on which landmarks differ by about what is rounded away of the rows."""
    random = np.random.default_rng(6)
    landmarks, rows = 0.01 * random.normal(size=(200, 8)), 0.01 * random.normal(size=(20, 8))
    landmarks[:, 0] = np.where(np.arange(200) % 2, -1, 1) * (1 + 2**-8 + 1e-6 * random.normal(size=200))
    rows[:, 0] = 3e4 * (1 + 1e-3 * random.normal(size=20))
    rows, landmarks = rows.astype(np.float32), landmarks.astype(np.float32)
    return Case(rows, np.zeros(20, np.int32), landmarks, leaves_around(200, 1, 256))


def beyond_scores() -> Case:
    """Return small landmarks and rows whose scores are no float32 numbers."""
    case = normal(20, 200, 8, 2, 192)
    case.rows[::3] = np.float32(3e38)
    return case._replace(landmarks=case.landmarks * np.float32(1e-3))


def duplicates() -> Case:
    """Return landmarks of which each is there ten times, so that more than there is room for are equally near."""
    case = normal(40, 300, 4, 2, 256)
    return case._replace(landmarks=np.repeat(case.landmarks[:3], 100, axis=0))


def close_calls() -> Case:
    """Return landmarks whose distances from a row differ by about what bfloat16 numbers round away."""
    random = np.random.default_rng(5)
    rows = random.normal(size=(40, 32)).astype(np.float32)
    away = random.normal(size=(256, 32))
    away *= (1 + 1e-4 * random.normal(size=(256, 1))) / np.linalg.norm(away, axis=1)[:, None]
    landmarks = (rows[np.arange(256) % 2] + 8 * away).astype(np.float32)
    return Case(rows[np.arange(40) % 2], np.zeros(40, np.int32), landmarks, np.arange(256)[None, :])


CASES = {
    "rows of several homes": lambda: normal(150, 700, 5, 4, 256),
    "one row": lambda: normal(1, 90, 20, 1, 128),
    "fewer landmarks than neighbors": lambda: normal(70, 9, 3, 1, 64, k=9),
    "the last homes have no rows": lambda: normal(66, 200, 3, 1, 128)._replace(around=leaves_around(200, 3, 128)),
    "close calls": close_calls,
    "far away": far_away,
    "far along an axis": far_along_an_axis,
    "beyond scores": beyond_scores,
    "duplicates": duplicates,
    **{
        kind: lambda kind=kind: hard(kind)
        for kind in (
            "ties", "far from zero", "nearly equal", "one row beyond float32's squares",
            "near landmarks beyond float32's squares", "tiny",
        )
    },
}  # fmt: skip


def uncompiled(features: int) -> tuple[CompiledKernel, ...]:
    """Return what a launch knows of kernels that only the interpreter runs."""
    sizes = {
        "screen_landmarks": {"ROWS": 64, "CENTERS": 64, "FEATURES": features, "ROOM": 64},
        "rank_landmarks": {"ROWS": 16, "CENTERS": 32, "KEPT": 16, "ROOM": 64},
    }
    kernels = []
    for entry, constants in sizes.items():
        arrays = [(name, f"*{kind}") for name, kind in build.POINTERS[entry].items()]
        parameters = (*arrays, *build.SCALARS[entry].items(), *2 * [(SCRATCH, "*i8")])
        kernels.append(CompiledKernel(entry, entry, constants, 128, 1024, parameters, entry.encode()))
    return tuple(kernels)


def find(case: Case, sources: Sources, kernels: Any = None) -> tuple[Any, Any, Any]:
    """Return neighbors, squared distances and numbers of candidates; reads and writes outside of arrays are errors."""
    kernels = uncompiled(max(16, 1 << (case.rows.shape[1] - 1).bit_length())) if kernels is None else kernels
    xp, counts = DeviceModule(), []
    cuda = InterpretedCuda(kernels, sources.placement, xp)
    launcher = Launcher(cuda)

    def launch(kernel: CompiledKernel, n_programs: int, arguments: dict[str, Any]) -> None:
        launcher.launch(kernel, n_programs, arguments)
        counts.append(to_numpy(arguments["Counts"]))

    device = FusedDevice(xp, kernels, launch, 1)
    landmarks = sources.fused_neighbors.prepare_landmarks(device, case.landmarks, case.around)
    found = sources.fused_neighbors.find_landmark_neighbors(
        device, xp.asarray(case.rows), xp.asarray(case.homes), landmarks, case.k
    )
    assert cuda.launched == ["screen_landmarks", "rank_landmarks"]
    return *map(to_numpy, found), counts[0]


def check(case: Case, sources: Sources, kernels: Any = None) -> Any:
    with np.errstate(all="ignore"):
        *found, counts = find(case, sources, kernels)
    expected = neighbors_by_definition(case.rows, case.homes, case.landmarks, case.around, case.k)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    return counts


@pytest.mark.parametrize("name", CASES)
def test_neighbors_and_distances_have_the_bits_of_the_definition(name: str) -> None:
    check(CASES[name](), Sources())


def test_few_candidates_are_left_of_ordinary_rows_and_all_are_ranked_of_hard_ones() -> None:
    ordinary = check(normal(150, 700, 5, 4, 512), Sources())
    assert ordinary.mean() < 24
    assert (check(duplicates(), Sources()) == fused_neighbors.ROOM + 1).mean() > 0.3


@pytest.mark.parametrize("name", LANDMARK_MUTANTS)
def test_a_mutant_is_caught(name: str, tmp_path: Path) -> None:
    where, before, after = LANDMARK_MUTANTS[name]
    text = Path(getattr(Sources(), where).__file__).read_text()
    assert before in text, "the source has changed: this mutant is none any more"
    path = tmp_path / f"{where}.py"
    path.write_text(text.replace(before, after) + (LAST_MIN if "_last_min" in after else ""))
    mutated = Sources()._replace(**{where: load(path, f"mutant_{where}")})
    for make in CASES.values():
        try:
            check(make(), mutated)
        except Exception:  # an assertion, or the interpreter's own error
            return
    pytest.fail("no case tells the mutant from the kernels")


def find_at(first: int, source: ModuleType) -> tuple[Any, Any]:
    """Return neighbors and distances of rows that begin at row and slot `first`; there is no memory before them."""
    case = normal(70, 200, 16, 1, 128)
    kernels, xp, n, k = uncompiled(16), DeviceModule(), 70, 16
    device = FusedDevice(xp, kernels, Launcher(InterpretedCuda(kernels, source, xp)).launch, 1)
    landmarks = fused_neighbors.prepare_landmarks(device, case.landmarks, case.around)
    neighbors, squared = xp.virtual(np.zeros((n, k), np.int64), first * k), xp.virtual(np.zeros((n, k)), first * k)
    tiles = {name: np.array(value) for name, value in fused_neighbors.lay_out_tiles(np.array([n])).items()}
    for name in ("Begins", "Ends"):
        tiles[name] = tiles[name] + first
    values = landmarks.arrays | {name: xp.asarray(array) for name, array in tiles.items()} | {
        "X": xp.virtual(case.rows, first * 16), "Order": xp.virtual(np.arange(first, first + n), first),
        "Candidates": xp.virtual(np.zeros((n, 64), np.int32), first * 64),
        "Counts": xp.virtual(np.zeros(n, np.int32), first), "Neighbors": neighbors, "Squared": squared,
        "width": 128, "n_landmarks": 200, "n_features": 16, "k": k, "factor": landmarks.factor,
        "per_row": certificate.error_bound(16).per_row, "floor": certificate.FLOOR, "largest": MAX_SQUARED_NORM,
        "tile_rows": 64,
    }  # fmt: skip
    for kernel, n_programs in zip(kernels, (2, 8), strict=True):
        device.launch(kernel, n_programs, {name: values[name] for name, _ in kernel.parameters if name in values})
    return neighbors.values, squared.values


def test_rows_far_from_the_first_are_as_those_at_the_beginning() -> None:
    for found, expected in zip(find_at((1 << 33) + 64, placement), find_at(0, placement), strict=True):
        np.testing.assert_array_equal(found, expected)
        assert found.any()


@pytest.mark.parametrize("name", INDEX_MUTANTS)
def test_an_index_in_32_bits_is_caught(name: str, tmp_path: Path) -> None:
    from triton.runtime.errors import InterpreterError

    before, after = INDEX_MUTANTS[name]
    text = Path(placement.__file__).read_text()
    assert text.count(before) == 1
    path = tmp_path / "placement.py"
    path.write_text(text.replace(before, after))
    mutant = load(path, "mutant_of_an_index")
    find_at(0, mutant)
    with pytest.raises(InterpreterError, match=OutOfBoundsError.__name__):
        find_at((1 << 33) + 64, mutant)


@pytest.mark.parametrize("architecture", [80, 90, 100, 120])
def test_a_search_launches_what_was_compiled(architecture: int) -> None:
    """Arguments go through the parameters of the cubins that are committed."""
    check(normal(70, 200, 20, 2, 128), Sources(), read_kernels(architecture))

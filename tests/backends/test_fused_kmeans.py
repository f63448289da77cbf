"""K-Means by fused kernels has the bits of the CPU; the kernels are NumPy's, and are launched as on a GPU."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import engine
from engine.backends import fused_gpu, gpu
from engine.backends.array_kmeans import ArrayBackend
from engine.backends.cpu import CpuBackend
from engine.backends.fused_kmeans import FusedKMeans
from engine.backends.gpu import GpuBackend, GpuProbe
from engine.config import FitConfig
from engine.errors import DeviceNotAvailableError, OutOfResourcesError, UsageError
from engine.execution.threads import row_blocks
from engine.kernels.cuda.kmeans import fused_pass
from engine.kernels.cuda.launch import Launcher, read_kernels
from engine.kmeans.lloyd import Clustering, Samples, lloyd
from engine.tsne.device import build_placement_index, place_rows
from tests.gpu import fused_kernels, libraries
from tests.gpu.counting import CountingModule, start_counting
from tests.gpu.fused_kernels import NumpyKernels
from tests.gpu.strict import StrictModule


class FusedDevice(FusedKMeans):
    """The backend on NumPy under CuPy's rules, with so many bytes of memory."""

    name = "a stand-in"
    device_errors = (ArithmeticError,)

    def __init__(self, xp: Any = None, *, memory: int | None = None, piece_rows: int = 1000, **options: Any) -> None:
        super().__init__(StrictModule() if xp is None else xp, **options)
        self.memory, self.piece_rows, self.driver = memory, piece_rows, NumpyKernels(read_kernels(90))
        self.fused_device = fused_pass.FusedDevice(self.xp, read_kernels(90), Launcher(self.driver).launch, 4)

    def free_memory(self) -> int | None:
        return self.memory

    def copy_in_pieces(self, X: Any) -> Iterator[tuple[slice, Any]]:
        for part in row_blocks(len(X), self.piece_rows):
            yield part, self.xp.asarray(X[part])


class ArrayDevice(ArrayBackend):
    """The array code on NumPy under CuPy's rules."""

    name = "a stand-in"

    def __init__(self) -> None:
        super().__init__(StrictModule())

    def free_memory(self) -> int | None:
        return None


def rows(n_rows: int, n_features: int, k: int, seed: int = 0) -> tuple[Any, Any]:
    """Return rows and initial centers; some rows lie halfway between two centers."""
    random = np.random.default_rng(seed)
    centers = random.normal(size=(k, n_features)).astype(np.float32)
    X = centers[random.integers(0, k, n_rows)] + random.normal(size=(n_rows, n_features)) + 5
    X[:50] = (centers[0] + centers[k - 1]) / 2 + 5
    return X.astype(np.float32), (centers + 5).astype(np.float32)


def run(backend: Any, X: Any, centers: Any, weights: Any = None, max_iter: int = 6) -> Clustering:
    return lloyd(Samples.from_array(X, weights, backend), centers, max_iter=max_iter, tolerance=0.0)


def assert_bits(found: Clustering, expected: Clustering) -> None:
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.centers, expected.centers)
    assert (found.inertia, found.n_iter) == (expected.inertia, expected.n_iter)


@pytest.mark.parametrize(
    ("n_features", "k", "weighted"), [(1, 3, False), (7, 40, True), (64, 5, False), (200, 6, True)]
)
@pytest.mark.parametrize("memory", [None, 0])
def test_passes_have_the_bits_of_the_cpu(n_features: int, k: int, weighted: bool, memory: int | None) -> None:
    """On rows that stay on the device, and on rows that are copied in pieces in every pass."""
    X, centers = rows(2500, n_features, k)
    weights = np.random.default_rng(1).uniform(0.1, 3.0, len(X)) if weighted else None
    backend = FusedDevice(memory=memory)
    assert_bits(run(backend, X, centers, weights), run(CpuBackend(), X, centers, weights))
    assert len(backend.driver.launched) % 2 == 0
    assert set(backend.driver.launched) == {"label_rows", "refine_rows"}


def test_centers_beyond_float32_squares_are_left_to_the_definition() -> None:
    X, centers = rows(300, 4, 5)
    centers[3] = 3e30
    assert_bits(run(FusedDevice(), X, centers), run(CpuBackend(), X, centers))


def test_a_pass_takes_ten_launches_at_most_and_copies_little_to_the_host() -> None:
    X, centers = rows(2500, 16, 30)
    xp = CountingModule()
    backend = FusedDevice(xp)
    samples = Samples.from_array(X, None, backend)
    state = samples.new_state(len(centers))
    for number in range(4):
        counter, before = start_counting(X), len(backend.driver.launched)
        n_changed = state.relabel(centers)
        operations = counter.operations[number == 0 :]  # before the first pass, labels are copied to the device
        assert len(operations) + len(backend.driver.launched) - before <= 10
        changes = [] if n_changed == 0 or 2 * n_changed > len(X) else ["gather"]
        assert operations == ["zeros", *changes, "sum", "sum"]
        assert (n_changed == len(X)) == (number == 0)
        centers = state.update_centers(centers)


def test_two_runs_in_turn_do_not_take_each_others_labels() -> None:
    X, centers = rows(1200, 5, 6)
    samples = Samples.from_array(X, None, FusedDevice())
    states = [samples.new_state(6) for _ in range(2)]
    moved = centers[::-1].copy()
    for _ in range(2):
        for state, start in zip(states, (centers, moved), strict=True):
            state.relabel(start)
    for state, start in zip(states, (centers, moved), strict=True):
        expected = Samples.from_array(X, None, CpuBackend()).new_state(6)
        expected.relabel(start)
        np.testing.assert_array_equal(state.labels, expected.labels)
        np.testing.assert_array_equal(state.sums, expected.sums)


class FailsOnce:
    """Wraps a function that raises an error at one of its calls, after it has done its work."""

    def __init__(self, function: Any, call: int, error: Exception) -> None:
        self.function, self.call, self.error = function, call, error

    def __call__(self, *args: Any) -> None:
        self.function(*args)
        self.call -= 1
        if self.call == 0:
            raise self.error


@pytest.mark.parametrize("call", [1, 2, 3, 6])
@pytest.mark.parametrize("error", [MemoryError("cudaErrorMemoryAllocation"), ArithmeticError("an illegal access")])
@pytest.mark.parametrize("memory", [None, 0])
def test_an_error_after_a_kernel_loses_no_label(call: int, error: Exception, memory: int | None) -> None:
    """Labels were replaced on the device when the error came: the pass begins again from those of the host."""
    X, centers = rows(2500, 5, 6)
    backend = FusedDevice(memory=memory, fallback=CpuBackend())
    launch = FailsOnce(backend.fused_device.launch, call, error)
    backend.fused_device = backend.fused_device._replace(launch=launch)
    assert_bits(run(backend, X, centers), run(CpuBackend(), X, centers))
    assert launch.call <= 0


def test_after_memory_ran_out_lists_are_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    X, centers = rows(2500, 5, 6)
    monkeypatch.setattr(fused_pass, "LIST_ROWS", 3000)
    backend = FusedDevice()
    launch = FailsOnce(backend.fused_device.launch, 1, MemoryError("once"))
    backend.fused_device = backend.fused_device._replace(launch=launch)
    assert_bits(run(backend, X, centers, max_iter=1), run(CpuBackend(), X, centers, max_iter=1))
    assert backend.driver.launched[1:9] == 4 * ["label_rows", "refine_rows"]  # 750 rows at a time


def test_rows_that_the_kernels_do_not_take_are_refused() -> None:
    X, centers = rows(100, 4, 3)
    with pytest.raises(UsageError, match="takes float32 rows, and these are float64"):
        run(FusedDevice(), X.astype(np.float64), centers)
    with pytest.raises(UsageError, match=r"takes up to 1,024 features, and there are 1,025"):
        run(FusedDevice(), np.zeros((3, 1025), np.float32), centers)
    many: Any = SimpleNamespace(shape=((1 << 31) // 16, 4), __len__=lambda: (1 << 31) // 16)
    with pytest.raises(UsageError, match=r"takes fewer than 134,217,728 clusters"):
        FusedDevice().prepare_centers(np.lib.stride_tricks.as_strided(centers, many.shape, (0, 0)), None)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="kernels of GPUs, which run on device 'cuda' only, and this is 'cpu'"):
        CpuBackend().with_fused_kernels()


def test_a_gpu_whose_kernels_are_wrong_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    FusedDevice().check_kernels()
    monkeypatch.setattr(fused_kernels, "refine_rows", lambda found: None)
    with pytest.raises(DeviceNotAvailableError, match=r"do not compute what they should on this GPU: \d+ of 4096"):
        FusedDevice().check_kernels()


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Install stand-ins for CuPy and RAPIDS whose GPU has compute capability 9.0; return CuPy."""

    def clear() -> None:
        libraries.clear_gpu_caches()
        for function in (gpu._products_are_exact, gpu.backend_of_this_process, fused_gpu.fused_backend):
            function.cache_clear()

    clear()
    monkeypatch.setattr(gpu, "probe", lambda: GpuProbe(True, "a GPU of tests"))
    xp: Any = StrictModule()
    libraries.install(monkeypatch, xp=xp)
    kernels = NumpyKernels(read_kernels(90))
    xp.cuda.Module, xp.cuda.driver = kernels.Module, kernels.driver
    yield xp
    clear()


def test_the_gpu_backend_launches_them_through_cupy(cupy: Any) -> None:
    X, centers = rows(500, 6, 4)
    backend = GpuBackend(fallback=CpuBackend()).with_fused_kernels()
    assert backend.fallback is not None
    assert_bits(run(backend, X, centers), run(CpuBackend(), X, centers))
    assert pickle.loads(pickle.dumps(backend)) is backend
    named = GpuBackend().with_fused_kernels()
    assert named.fallback is None
    assert named is not backend


def test_estimator_and_fit_have_the_bits_of_the_cpu(cupy: Any, tmp_path: Path) -> None:
    X, _ = rows(400, 3, 4)
    models = [
        engine.KMeans(4, device=device, algorithm=algorithm, random_state=0).fit(X)
        for device, algorithm in (("cuda", "fused"), ("cpu", "lloyd"))
    ]
    np.testing.assert_array_equal(models[0].cluster_centers_, models[1].cluster_centers_)
    np.testing.assert_array_equal(models[0].labels_, models[1].labels_)
    table = pa.table({name: X[:, i] for i, name in enumerate("abc")})
    config = FitConfig(skip=("explain", "report", "map"))
    runs = [
        engine.fit(
            table, n_clusters=4, out=tmp_path / device, device=device, algorithm=algorithm, config=config,
            reproducible=True,
        )
        for device, algorithm in (("cuda", "fused"), ("cpu", "lloyd"))
    ]  # fmt: skip
    assert runs[0].assignments.equals(runs[1].assignments)
    assert runs[0].manifest["computed_by"]["kmeans"] == {"library": "fused kernels", "reason": "it was asked for"}


def test_fused_kernels_that_cannot_be_used_are_refused_before_any_work(tmp_path: Path) -> None:
    table = pa.table({"a": [1.0, 2.0, 4.0]})
    with pytest.raises(UsageError, match="algorithm='fused' is kernels of GPUs"):
        engine.fit(table, n_clusters=2, out=tmp_path / "run", device="cpu", algorithm="fused")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="algorithm='fused' is kernels of GPUs"):
        engine.KMeans(2, device="cpu", algorithm="fused").fit(np.zeros((3, 1), np.float32))


@pytest.mark.parametrize("algorithm", ["fused", "cuml"])
def test_what_needs_a_gpu_says_why_there_is_none(
    algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "probe", lambda: GpuProbe(False, "this machine has no GPU"))
    table = pa.table({"a": [1.0, 2.0, 4.0]})
    with pytest.raises(DeviceNotAvailableError, match=r"algorithm=.* this machine has no GPU") as caught:
        engine.fit(table, n_clusters=2, out=tmp_path / "run", algorithm=algorithm)
    assert caught.value.exit_code == 4
    assert not (tmp_path / "run").exists()
    with pytest.raises(DeviceNotAvailableError, match=f"algorithm='{algorithm}' .* this machine has no GPU"):
        engine.KMeans(2, algorithm=algorithm).fit(np.zeros((3, 1), np.float32))


def test_a_driver_that_does_not_take_the_cubins_is_an_error_that_says_so(cupy: Any) -> None:
    class NoImageError(RuntimeError):
        pass

    def load(*args: Any) -> None:
        raise NoImageError("CUDA_ERROR_NO_BINARY_FOR_GPU: no kernel image is available")

    cupy.cuda.Module = lambda: SimpleNamespace(load=load)
    with pytest.raises(DeviceNotAvailableError, match="kernels do not run on this GPU: CUDA_ERROR_NO_BINARY_FOR_GPU"):
        GpuBackend().with_fused_kernels()


def test_a_gpu_for_which_nothing_was_compiled_is_refused(cupy: Any) -> None:
    cupy.cuda.Device().compute_capability = "103"
    with pytest.raises(
        DeviceNotAvailableError,
        match=r"compiled for compute capabilities 8.x and 9.0, 10.0 and 12.0, and this GPU has 10.3",
    ):
        GpuBackend().with_fused_kernels()


def test_without_a_fallback_an_error_of_the_device_is_passed_on(caplog: pytest.LogCaptureFixture) -> None:
    X, centers = rows(300, 5, 3)
    backend = FusedDevice()
    launch = FailsOnce(backend.fused_device.launch, 1, ArithmeticError("an illegal access"))
    backend.fused_device = backend.fused_device._replace(launch=launch)
    with caplog.at_level(logging.WARNING), pytest.raises(OutOfResourcesError, match="failed: an illegal access"):
        run(backend, X, centers)


@pytest.mark.parametrize(("n_features", "launched"), [(7, True), (128, True), (129, False)])
def test_rows_are_placed_by_fused_kernels_to_the_bits_of_the_array_code(n_features: int, launched: bool) -> None:
    """Pieces of 1,001 rows of 7 features begin where no array of a kernel may."""
    X = np.random.default_rng(3).normal(size=(3400, n_features)).astype(np.float32)
    landmarks, embedding = X[:1400], np.ascontiguousarray(X[:1400, :2])
    fused, plain = FusedDevice(piece_rows=1001), ArrayDevice()
    index = build_placement_index(fused, landmarks, embedding)
    n_before = len(fused.driver.launched)
    found = place_rows(fused, X[1400:], index)
    n_pieces = 2
    assert fused.driver.launched[n_before:] == n_pieces * launched * ["screen_landmarks", "rank_landmarks"]
    expected = place_rows(plain, X[1400:], build_placement_index(plain, landmarks, embedding))
    np.testing.assert_array_equal(found.coordinates, expected.coordinates)
    np.testing.assert_array_equal(found.uncertain, expected.uncertain)


def test_kernels_that_find_wrong_landmarks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def rank_wrongly(found: Any, n_tiles: int) -> None:
        rank_landmarks(found, n_tiles)
        found.array("Neighbors", 16)[3] += 1

    rank_landmarks = fused_kernels.rank_landmarks
    FusedDevice().check_kernels()
    monkeypatch.setattr(fused_kernels, "rank_landmarks", rank_wrongly)
    with pytest.raises(DeviceNotAvailableError, match="neighbors of 1 of 1000 rows"):
        FusedDevice().check_kernels()

"""A device that is lost at any moment of a fit: with auto the fit ends on the CPU, loudly, with what the CPU finds."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import engine
from engine.config import FitConfig
from engine.errors import DeviceNotAvailableError, OutOfResourcesError, UsageError
from tests.gpu.stand_in import forget_gpu, stand_in_gpu
from tests.gpu.strict import StrictArray, StrictModule

SETTINGS = FitConfig.merge({}, skip=["explain", "report"], map={"n_landmarks": 100, "max_iter": 250})
MOMENTS = [0.0, 0.05, 0.2, 0.5, 0.8, 0.999]  # of a fit, in calls of the module


class CudaError(RuntimeError):
    """As CUDA, cuBLAS and RMM raise."""


class LostDevice(StrictModule):
    """CuPy on a device that is lost at a call: that one and all later ones fail."""

    def __init__(self) -> None:
        self.n_calls, self.lost_at = 0, float("inf")

    def __getattr__(self, name: str) -> Any:
        function = super().__getattr__(name)

        return function if name == "add" else self.counted(function)

    def counted(self, function: Any) -> Any:
        """Return a function that fails like the module's once the device is lost."""

        def call(*args: Any, **kwargs: Any) -> Any:
            self.n_calls += 1
            if self.n_calls > self.lost_at:
                raise CudaError("cudaErrorECCUncorrectable: uncorrectable ECC error\nencountered")
            return function(*args, **kwargs)

        return call


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Any:
    lost = LostDevice()
    with stand_in_gpu(monkeypatch, xp=lost):
        yield lost


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(0)
    centers = np.array([[0, 0, 0], [9, 0, 1], [0, 9, 2], [9, 9, 3]])[np.arange(150) % 4]
    values = centers + random.normal(size=centers.shape)
    path = tmp_path_factory.mktemp("tables") / "people.parquet"
    pq.write_table(pa.table({name: values[:, c] for c, name in enumerate("abc")}), path)
    return path


def lose(device: LostDevice, at: float) -> None:
    """Let a new process, as it were, lose its device at a call."""
    forget_gpu()
    device.n_calls, device.lost_at = 0, at


def fit(source: Path, out: Path, skip: tuple[str, ...] = (), **options: Any) -> engine.Run:
    config = SETTINGS.model_copy(update={"skip": SETTINGS.skip + skip})
    return engine.fit(source, out=out, n_clusters=4, config=config, overwrite=True, **options)


@pytest.mark.parametrize(("algorithm", "skip"), [("auto", ()), ("lloyd", ("map",))])
def test_a_device_that_is_lost_at_any_moment_ends_on_the_cpu(
    source: Path,
    tmp_path: Path,
    device: LostDevice,
    caplog: pytest.LogCaptureFixture,
    algorithm: str,
    skip: tuple[str, ...],
) -> None:
    options: dict[str, Any] = {"algorithm": algorithm, "skip": skip}
    fit(source, tmp_path / "run", device="auto", **options)
    n_calls = device.n_calls
    expected = fit(source, tmp_path / "cpu", device="cpu", skip=("map",)).assignments["cluster"].to_numpy()
    endings = set()
    for moment in MOMENTS:
        lose(device, int(moment * n_calls))
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            run = fit(source, tmp_path / "run", device="auto", **options)
        assert "cudaErrorECCUncorrectable" in caplog.text, moment
        labels, model = run.assignments["cluster"].to_numpy(), engine.load(run.path)
        Z = model.scores(pq.read_table(source)).astype(np.float64)
        np.testing.assert_array_equal(labels, np.square(Z[:, None] - model.centers).sum(axis=2).argmin(axis=1))
        if algorithm == "lloyd":
            np.testing.assert_array_equal(labels, expected)
        endings.add(run.manifest["device"])
    assert "cpu" in endings


def test_a_named_device_that_is_lost_is_an_error(source: Path, tmp_path: Path, device: LostDevice) -> None:
    fit(source, tmp_path / "run", device="cuda")
    n_calls = device.n_calls
    for moment in MOMENTS[1::2]:
        lose(device, int(moment * n_calls))
        with pytest.raises(OutOfResourcesError, match=r"Device 'cuda' failed: .*cudaErrorECCUncorrectable"):
            fit(source, tmp_path / "run", device="cuda")


def few_rows() -> Any:
    random = np.random.default_rng(1)
    return (random.integers(0, 3, (60, 1)) * 5 + random.normal(size=(60, 4))).astype(np.float32)


def k_means(X: Any, device: str) -> list[Any]:
    kmeans = engine.KMeans(3, n_init=1, max_iter=3, random_state=0, device=device).fit(X)
    return [kmeans.cluster_centers_, kmeans.labels_, kmeans.predict(X[::2]), kmeans.transform(X[::2])]


def components(X: Any, device: str) -> list[Any]:
    pca = engine.PCA(2, device=device).fit(X)
    return [pca.transform(X)]


@cache
def fitted_map() -> Any:
    return engine.TSNE(perplexity=5, max_iter=250, random_state=0, device="cpu").fit(few_rows())


def placed_rows(X: Any, device: str) -> list[Any]:
    return [fitted_map().set_params(device=device).transform(X[::2] + np.float32(0.1))]


@pytest.mark.parametrize("estimate", [k_means, components, placed_rows])
def test_estimators_whose_device_is_lost_at_any_call_end_on_the_cpu_or_in_a_clear_error(
    device: LostDevice, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, estimate: Any
) -> None:
    copy, copy_back = StrictArray.set, StrictArray.get
    monkeypatch.setattr(StrictArray, "set", lambda *args, **kwargs: device.counted(copy)(*args, **kwargs))
    monkeypatch.setattr(StrictArray, "get", lambda *args: device.counted(copy_back)(*args))
    X = few_rows()
    expected = estimate(X, "cpu")
    lose(device, 1 << 62)
    estimate(X, "auto")
    n_calls = device.n_calls
    assert n_calls > 20
    for moment in range(0, n_calls, max(1, n_calls // 40)):
        lose(device, moment)
        caplog.clear()
        for found, wanted in zip(estimate(X, "auto"), expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4, err_msg=str(moment))
        assert "cudaErrorECCUncorrectable" in caplog.text, moment
        lose(device, moment)
        with pytest.raises((OutOfResourcesError, DeviceNotAvailableError), match="cudaErrorECCUncorrectable"):
            estimate(X, "cuda")


def test_an_estimator_that_names_cuml_ends_in_a_clear_error_or_in_its_own_labels_whichever_call_fails(
    device: LostDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, copy_back = StrictArray.set, StrictArray.get
    monkeypatch.setattr(StrictArray, "set", lambda *args, **kwargs: device.counted(copy)(*args, **kwargs))
    monkeypatch.setattr(StrictArray, "get", lambda *args: device.counted(copy_back)(*args))
    X = few_rows()

    def cluster(name: str) -> Any:
        return engine.KMeans(3, random_state=0, algorithm="cuml", device=name).fit(X)

    lose(device, 1 << 62)
    cluster("cuda")
    n_calls = device.n_calls
    assert n_calls > 20
    n_labels_of_the_cpu = 0
    for moment in range(n_calls):
        lose(device, moment)
        with pytest.raises((OutOfResourcesError, DeviceNotAvailableError), match="cudaErrorECCUncorrectable"):
            cluster("cuda")
        lose(device, moment)
        try:
            fitted = cluster("auto")
        except (OutOfResourcesError, DeviceNotAvailableError, UsageError) as error:
            # Without cuML's centers there is no result.
            message = str(error)
        else:
            message = "`rooms doctor`"  # nothing to say: the centers are cuML's, and the CPU has found the labels
            distances = np.square(X[:, None].astype(np.float64) - fitted.cluster_centers_).sum(axis=2)
            np.testing.assert_array_equal(fitted.labels_, distances.argmin(axis=1))
            n_labels_of_the_cpu += 1
        assert "cudaErrorECCUncorrectable" in message or "`rooms doctor`" in message
    assert n_labels_of_the_cpu > 0

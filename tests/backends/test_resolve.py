"""resolve() returns the backend of a device and says why; the driver is a stand-in."""

from __future__ import annotations

import ctypes
import logging
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from engine import backends
from engine.backends import cuda_driver as driver
from engine.backends import gpu, gpu_libraries
from engine.errors import DeviceNotAvailableError, UsageError
from tests.gpu.strict import StrictModule

CARD = driver.Gpu("NVIDIA H200", 141 << 30, (9, 0), (13, 1))


@pytest.fixture(autouse=True)
def clear_probe_cache() -> Any:
    gpu.probe.cache_clear()
    gpu_libraries.installed_libraries.cache_clear()
    yield
    gpu.probe.cache_clear()
    gpu_libraries.installed_libraries.cache_clear()


def install_driver(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Install a driver that reports one H200, with these answers changed."""
    answers = {"init": 0, "count": 1, "capability": (9, 0), "memory": 141 << 30} | changes

    def return_value(value: int) -> Any:
        def function(out: Any, *rest: Any) -> int:
            out._obj.value = value
            return 0

        return function

    def attribute(out: Any, which: int, device: int) -> int:
        out._obj.value = answers["capability"][which - 75]
        return 0

    def name(out: Any, size: int, device: int) -> int:
        out.value = b"NVIDIA H200"
        return 0

    library = SimpleNamespace(
        cuInit=lambda flags: answers["init"], cuDeviceGetCount=return_value(answers["count"]),
        cuDeviceGet=return_value(0), cuDeviceGetName=name, cuDeviceTotalMem_v2=return_value(answers["memory"]),
        cuDeviceGetAttribute=attribute,
        cuDriverGetVersion=return_value(13010),
    )  # fmt: skip
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)


def remove_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)


def test_cpu_is_resolved_if_it_is_asked_for() -> None:
    backend, reason = backends.resolve("cpu")
    assert (backend.name, reason) == ("cpu", "cpu, because it was asked for")


def test_auto_says_why_it_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    remove_driver(monkeypatch)
    backend, reason = backends.resolve("auto")
    assert (backend.name, reason) == ("cpu", "cpu, because no NVIDIA driver was found (libcuda)")


def test_a_device_asked_for_by_name_is_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    remove_driver(monkeypatch)
    with pytest.raises(DeviceNotAvailableError, match=r"asked for, but no NVIDIA driver.*\nHint: use device"):
        backends.resolve("cuda")


def test_an_unknown_device_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="'tpu' is not one of auto, cpu, cuda"):
        backends.resolve("tpu")


def test_a_gpu_is_described_with_its_memory_and_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    install_driver(monkeypatch)
    assert driver.first_gpu() == CARD
    assert CARD.describe() == "NVIDIA H200, 141 GiB, compute capability 9.0, driver for CUDA 13.1"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"init": 100}, r"installed, but does not start \(cuInit says 100, CUDA_VISIBLE_DEVICES is '-1'\)"),
        ({"count": 0}, "sees no GPU, CUDA_VISIBLE_DEVICES is '-1'"),
        ({"capability": (6, 1)}, "too old for RAPIDS, which wants 7.0: NVIDIA H200"),
    ],
)
def test_every_fault_of_the_driver_has_its_reason(monkeypatch: pytest.MonkeyPatch, changes: Any, reason: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    install_driver(monkeypatch, **changes)
    with pytest.raises(driver.GpuNotFoundError, match=reason):
        driver.first_gpu()


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> StrictModule:
    """Install CuPy's stand-in and a card, without RAPIDS; forget it afterwards."""
    module = StrictModule()
    runtime = SimpleNamespace(memGetInfo=lambda: (8 << 30, 16 << 30))
    module.__dict__["cuda"] = SimpleNamespace(runtime=runtime)
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr(gpu, "first_gpu", lambda: CARD)
    monkeypatch.setattr(gpu, "find_spec", lambda name: name)
    monkeypatch.setattr(gpu_libraries, "_is_findable", lambda name: False)
    return module


def test_cupy_alone_is_enough_and_what_is_missing_is_named(cupy: StrictModule) -> None:
    probe = gpu.probe()
    assert probe.usable
    assert probe.description == (
        f"{CARD.describe()}; CuPy computes, pyarrow loads tables (pylibcudf, cudf cannot be found), "
        "no cuML (cuml cannot be found)"
    )


def test_without_cupy_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch, cupy: StrictModule) -> None:
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    probe = gpu.probe()
    assert (probe.usable, probe.description) == (False, f"there is a GPU ({CARD.describe()}), but cupy cannot be found")


def test_an_optional_library_that_does_not_import_says_why(monkeypatch: pytest.MonkeyPatch, cupy: StrictModule) -> None:
    def broken(name: str) -> None:
        if name == "cudf":
            raise ImportError("numba 0.68 is too new\nfor numba-cuda")

    monkeypatch.setattr(gpu_libraries, "_is_findable", lambda name: True)
    monkeypatch.setattr(gpu_libraries, "import_module", broken)
    found = gpu_libraries.installed_libraries()
    assert found.available == {"rmm", "cuml"}
    assert found.describe() == (
        "CuPy computes, pyarrow loads tables (cudf does not work: numba 0.68 is too new), "
        "cuML computes PCA, K-Means and t-SNE"
    )


def test_a_gpu_that_answers_and_does_not_compute_is_not_used(
    monkeypatch: pytest.MonkeyPatch, cupy: StrictModule
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUBLAS_STATUS_ALLOC_FAILED\nin handle")

    monkeypatch.setitem(cupy.__dict__, "matmul", fail)
    probe = gpu.probe()
    assert not probe.usable
    assert probe.description.endswith("but it does not compute: CUBLAS_STATUS_ALLOC_FAILED")


def test_a_gpu_that_computes_wrongly_is_not_used(monkeypatch: pytest.MonkeyPatch, cupy: StrictModule) -> None:
    monkeypatch.setitem(cupy.__dict__, "matmul", lambda left, right: left)
    assert gpu.probe().description.endswith("but a product of matrices was wrong")


class CompileException(Exception):  # noqa: N818  (as it is called in CuPy)
    """Raised where NVRTC fails to compile a kernel."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            CompileException("nvrtc: error: invalid value for --gpu-architecture\n..."),
            "the GPU does not work: nvrtc: error",
        ),
        (DeviceNotAvailableError("float32 products are rounded."), "float32 products are rounded."),
    ],
)
def test_auto_is_the_cpu_loudly_if_the_backend_cannot_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception, reason: str
) -> None:
    def fail(**_: Any) -> None:
        raise error

    monkeypatch.setattr(gpu, "probe", lambda: gpu.GpuProbe(True, "a GPU of tests"))
    monkeypatch.setattr(gpu, "GpuBackend", fail)
    with caplog.at_level(logging.WARNING):
        backend, why = backends.resolve("auto")
    assert backend.name == "cpu"
    assert why.startswith(f"cpu, because {reason}")
    assert f"The GPU is not used: {reason}" in caplog.text
    with pytest.raises(DeviceNotAvailableError, match=reason):
        backends.resolve("cuda")

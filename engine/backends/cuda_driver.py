"""Find the first GPU through NVIDIA's driver alone: no GPU library is imported on machines without a GPU.

libcuda  ->  Gpu, or GpuNotFoundError with the reason as its message
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from typing import Any

LIBRARIES = ("libcuda.so.1", "nvcuda.dll")
MIN_CAPABILITY = (7, 0)  # of RAPIDS 26.10's kernels with CUDA 12; with CUDA 13 it is 7.5
_MAJOR, _MINOR = 75, 76  # cuDeviceGetAttribute: the two parts of the compute capability


class GpuNotFoundError(Exception):
    """No GPU answers; the message says why."""


@dataclass(frozen=True)
class Gpu:
    """The first GPU the process may use."""

    name: str
    memory: int  # bytes
    capability: tuple[int, int]
    driver: tuple[int, int]  # the newest CUDA version that the driver runs

    def describe(self) -> str:
        """Return name, memory, compute capability and driver in one line of text."""
        return (
            f"{self.name}, {self.memory / 2**30:.0f} GiB, compute capability {_version_text(self.capability)}, "
            f"driver for CUDA {_version_text(self.driver)}"
        )


def first_gpu() -> Gpu:
    """Return the first GPU.

    Raises
    ------
    GpuNotFoundError
        If there is no driver, if it does not start, or if it sees no GPU or one that is too old.
    """
    driver = _load_driver()
    status = driver.cuInit(0)
    if status != 0:
        raise GpuNotFoundError(
            f"the NVIDIA driver is installed, but does not start (cuInit says {status}{_visible_devices_note()})"
        )
    count = _query_int(driver.cuDeviceGetCount)
    if count < 1:
        raise GpuNotFoundError(f"the NVIDIA driver sees no GPU{_visible_devices_note()}")
    device = _query_int(driver.cuDeviceGet, 0)
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    _check_status("cuDeviceGetName", driver.cuDeviceGetName(name, 256, device))
    _check_status("cuDeviceTotalMem", driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device))
    capability = (
        _query_int(driver.cuDeviceGetAttribute, _MAJOR, device),
        _query_int(driver.cuDeviceGetAttribute, _MINOR, device),
    )
    gpu = Gpu(name.value.decode(), memory.value, capability, _split_version(_query_int(driver.cuDriverGetVersion)))
    if capability < MIN_CAPABILITY:
        raise GpuNotFoundError(
            f"the GPU is too old for RAPIDS, which wants {_version_text(MIN_CAPABILITY)}: {gpu.describe()}"
        )
    return gpu


def _load_driver() -> Any:
    for name in LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise GpuNotFoundError("no NVIDIA driver was found (libcuda)")


def _query_int(function: Any, *arguments: int) -> int:
    out = ctypes.c_int()
    _check_status(getattr(function, "__name__", "the driver"), function(ctypes.byref(out), *arguments))
    return out.value


def _check_status(what: str, status: int) -> None:
    if status != 0:
        raise GpuNotFoundError(f"the NVIDIA driver answers with error {status} to {what}")


def _split_version(number: int) -> tuple[int, int]:
    return number // 1000, number % 1000 // 10


def _version_text(pair: tuple[int, int]) -> str:
    return f"{pair[0]}.{pair[1]}"


def _visible_devices_note() -> str:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if visible is None else f", CUDA_VISIBLE_DEVICES is {visible!r}"

"""Ask NVIDIA's driver, and nothing else, which GPU there is: no GPU library is imported to learn that there is none.

libcuda  ->  Gpu, or NoGpu with the reason in words
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from typing import Any

LIBRARIES = ("libcuda.so.1", "nvcuda.dll")
LEAST_CAPABILITY = (7, 0)  # of RAPIDS 26.10's kernels with CUDA 12; with CUDA 13 it is 7.5
_MAJOR, _MINOR = 75, 76  # attributes of a device


class NoGpu(Exception):  # noqa: N818 - a finding, not an error
    """No GPU answers; the message says why."""


@dataclass(frozen=True)
class Gpu:
    """The first GPU the process may use."""

    name: str
    memory: int  # bytes
    capability: tuple[int, int]
    driver: tuple[int, int]  # the newest CUDA version that the driver runs

    def words(self) -> str:
        """Return what it is, for people."""
        return (
            f"{self.name}, {self.memory / 2**30:.0f} GiB, compute capability {_dotted(self.capability)}, "
            f"driver for CUDA {_dotted(self.driver)}"
        )


def first_gpu() -> Gpu:
    """Return the first GPU.

    Raises
    ------
    NoGpu
        If there is no driver, it does not start, sees no GPU, or one that is too old.
    """
    driver = _library()
    status = driver.cuInit(0)
    if status != 0:
        raise NoGpu(f"the NVIDIA driver is installed, but does not start (cuInit says {status}{_hidden()})")
    count = _int(driver.cuDeviceGetCount)
    if count < 1:
        raise NoGpu(f"the NVIDIA driver sees no GPU{_hidden()}")
    device = _int(driver.cuDeviceGet, 0)
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    _checked("cuDeviceGetName", driver.cuDeviceGetName(name, 256, device))
    _checked("cuDeviceTotalMem", driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device))
    capability = _int(driver.cuDeviceGetAttribute, _MAJOR, device), _int(driver.cuDeviceGetAttribute, _MINOR, device)
    found = Gpu(name.value.decode(), memory.value, capability, _version(_int(driver.cuDriverGetVersion)))
    if capability < LEAST_CAPABILITY:
        raise NoGpu(f"the GPU is too old for RAPIDS, which wants {_dotted(LEAST_CAPABILITY)}: {found.words()}")
    return found


def _library() -> Any:
    for name in LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise NoGpu("no NVIDIA driver was found (libcuda)")


def _int(function: Any, *arguments: int) -> int:
    out = ctypes.c_int()
    _checked(getattr(function, "__name__", "the driver"), function(ctypes.byref(out), *arguments))
    return out.value


def _checked(what: str, status: int) -> None:
    if status != 0:
        raise NoGpu(f"the NVIDIA driver answers with error {status} to {what}")


def _version(number: int) -> tuple[int, int]:
    return number // 1000, number % 1000 // 10


def _dotted(pair: tuple[int, int]) -> str:
    return f"{pair[0]}.{pair[1]}"


def _hidden() -> str:
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if chosen is None else f", CUDA_VISIBLE_DEVICES is {chosen!r}"

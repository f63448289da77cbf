"""The GPU backend with fused K-Means kernels, which were compiled ahead for its architecture and are launched by CuPy.

    GpuBackend.with_fused_kernels()  ->  FusedGpuBackend

Not measured yet: nothing here has run on a GPU.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from engine.backends.cpu import CpuBackend
from engine.backends.fused_kmeans import USE_LLOYD, FusedKMeans
from engine.backends.gpu import GpuBackend, backend_of_this_process
from engine.errors import DeviceNotAvailableError, first_line
from engine.kernels.cuda.kmeans.fused_pass import FusedDevice
from engine.kernels.cuda.launch import ARCHITECTURES, Launcher, architecture_of, read_kernels


class FusedGpuBackend(FusedKMeans, GpuBackend):
    """GpuBackend with the lloyd_pass of FusedKMeans; made by `fused_backend`, which tests the kernels."""

    def __init__(self, *, fallback: CpuBackend | None = None) -> None:
        super().__init__(fallback=fallback)
        cuda = self.xp.cuda
        device = cuda.Device()
        capability = divmod(int(device.compute_capability), 10)
        architecture = architecture_of(capability)
        if architecture is None:
            raise DeviceNotAvailableError(
                f"algorithm='fused' is compiled for compute capabilities 8.x and {_describe(ARCHITECTURES[1:])}, and "
                f"this GPU has {capability[0]}.{capability[1]}.",
                hint=USE_LLOYD,
            )
        self.fused_device = FusedDevice(
            self.xp, read_kernels(architecture), Launcher(cuda).launch, int(device.attributes["MultiProcessorCount"])
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _fused_backend_of_this_process, (self.fallback is not None,)


@cache
def fused_backend(with_fallback: bool) -> FusedGpuBackend:
    """Return the backend with fused kernels of this process, whose kernels have passed their test."""
    backend = FusedGpuBackend(fallback=CpuBackend() if with_fallback else None)
    errors: tuple[type[Exception], ...] = (*backend.device_errors, MemoryError)
    try:
        backend.check_kernels()
    except errors as error:  # the driver may be older than the cubins
        raise DeviceNotAvailableError(
            f"The fused K-Means kernels do not run on this GPU: {first_line(error)}.", hint=USE_LLOYD
        ) from error
    return backend


def _fused_backend_of_this_process(with_fallback: bool) -> FusedGpuBackend:
    backend_of_this_process(with_fallback)  # which says what keeps a worker from using its GPU
    return fused_backend(with_fallback)


def _describe(architectures: tuple[int, ...]) -> str:
    *most, last = (f"{number // 10}.{number % 10}" for number in architectures)
    return f"{', '.join(most)} and {last}"

"""Backends compute one block of rows on a device; resolve(device) is the only code that knows which there are."""

from __future__ import annotations

import logging

from engine.backends.cpu import CpuBackend
from engine.backends.protocol import Backend
from engine.errors import DeviceNotAvailableError, UsageError, first_line

logger = logging.getLogger(__name__)
DEVICES = ("auto", "cpu", "cuda")


def resolve(device: str = "auto") -> tuple[Backend, str]:
    """Return the backend for a device, and one sentence that says which was chosen and why.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda"}
        "auto" is cuda if the GPU libraries are installed and a GPU answers, else cpu.

    Raises
    ------
    DeviceNotAvailableError
        If device is "cuda" and no GPU can be used: a named device is never replaced by another.
    """
    if device not in DEVICES:
        raise UsageError(f"device={device!r} is not one of {', '.join(DEVICES)}.")
    if device == "cpu":
        return CpuBackend(), "cpu, because it was asked for"
    from engine.backends import gpu  # imported late: most machines have no GPU

    probe, reason = gpu.probe(), ""
    if probe.usable:
        try:
            if device == "cuda":
                return gpu.GpuBackend(), f"cuda, because it was asked for: {probe.description}"
            return gpu.GpuBackend(fallback=CpuBackend()), f"cuda, because a GPU answers: {probe.description}"
        except DeviceNotAvailableError as error:
            if device == "cuda":
                raise
            reason = error.message
        except Exception as error:  # of the driver, a compiler or a library: they fail in many ways
            reason = f"the GPU does not work: {first_line(error)}"
    reason = reason or probe.description
    if device == "cuda":
        raise DeviceNotAvailableError(
            f"Device 'cuda' was asked for, but {reason}.", hint="use device 'auto' or 'cpu', or see `rooms doctor`."
        )
    if probe.usable:
        logger.warning("The GPU is not used: %s", reason)
    return CpuBackend(), f"cpu, because {reason}"


def backend_of(device: str | Backend) -> Backend:
    """Return the backend of a device by its name, or the one that is given: what a fit computes on, it has chosen."""
    return resolve(device)[0] if isinstance(device, str) else device


def for_sparse_rows(device: str, n_features: int) -> Backend:
    """Return the backend for sparse rows, which is the CPU's; raises UsageError if device is "cuda"."""
    if device == "cuda":
        raise UsageError(
            "Sparse rows are computed on the CPU only, and device='cuda' was asked for.", hint="use device='auto'."
        )
    from engine.backends.sparse_cpu import SparseCpuBackend  # imported late: rows are seldom sparse

    return SparseCpuBackend(n_features)


__all__ = ["DEVICES", "Backend", "backend_of", "for_sparse_rows", "resolve"]

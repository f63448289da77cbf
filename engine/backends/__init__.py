"""Backends compute one block of rows on a device; resolve(device) is the only code that knows which there are."""

from __future__ import annotations

from engine.backends.cpu import CpuBackend
from engine.backends.protocol import Backend
from engine.errors import DeviceNotAvailableError, UsageError

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
        raise UsageError(f"device={device!r} is none of {', '.join(DEVICES)}.")
    if device == "cpu":
        return CpuBackend(), "cpu, because it was asked for"
    from engine.backends import gpu  # imported late: most machines have no GPU

    probe = gpu.probe()
    if probe.usable and device == "cuda":
        return gpu.GpuBackend(), f"cuda, because it was asked for: {probe.description}"
    if probe.usable:
        return gpu.GpuBackend(fallback=CpuBackend()), f"cuda, because a GPU answers: {probe.description}"
    if device == "cuda":
        raise DeviceNotAvailableError(
            f"Device 'cuda' was asked for, but {probe.description}.",
            hint="use device 'auto' or 'cpu', or see `rooms doctor`.",
        )
    return CpuBackend(), f"cpu, because {probe.description}"


__all__ = ["DEVICES", "Backend", "resolve"]

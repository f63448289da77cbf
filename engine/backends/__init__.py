"""How one block is computed: resolve(device) is the only place that knows which backends there are."""

from __future__ import annotations

from engine.backends.cpu import CpuBackend
from engine.backends.protocol import Backend
from engine.errors import DeviceNotAvailableError, UsageError

DEVICES = ("auto", "cpu", "cuda")


def resolve(device: str = "auto") -> tuple[Backend, str]:
    """Return the backend for a device, and one sentence saying what was chosen and why.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda"}
        "auto" is cuda if a GPU backend is there and a GPU answers, else cpu.

    Raises
    ------
    DeviceNotAvailableError
        If "cuda" is asked for and cannot be had: a named device is never replaced by another.
    """
    if device not in DEVICES:
        raise UsageError(f"device={device!r} is none of {', '.join(DEVICES)}.")
    if device == "cpu":
        return CpuBackend(), "cpu, because it was asked for"
    from engine.backends import gpu  # the arithmetic of a device that most machines lack

    found = gpu.probe()
    if found.usable and device == "cuda":
        return gpu.GpuBackend(), f"cuda, because it was asked for: {found.finding}"
    if found.usable:
        return gpu.GpuBackend(spare=CpuBackend()), f"cuda, because a GPU answers: {found.finding}"
    if device == "cuda":
        raise DeviceNotAvailableError(
            f"Device 'cuda' was asked for, but {found.finding}.",
            hint="use device 'auto' or 'cpu', or see `rooms doctor`.",
        )
    return CpuBackend(), f"cpu, because {found.finding}"


__all__ = ["DEVICES", "Backend", "resolve"]

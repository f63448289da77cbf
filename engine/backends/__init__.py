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
    if device == "cuda":
        raise DeviceNotAvailableError(
            "Device 'cuda' was asked for, but this version computes on the CPU only: it has no GPU backend.",
            hint="use device 'auto' or 'cpu'.",
        )
    why = "it was asked for" if device == "cpu" else "this version has no GPU backend"
    return CpuBackend(), f"cpu, because {why}"


__all__ = ["DEVICES", "Backend", "resolve"]

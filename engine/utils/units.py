"""Parse amounts of memory such as "2GiB" or "500 MB", and shares such as "5%" or "0.05"."""

from __future__ import annotations

import re

from engine.errors import UsageError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def parse_bytes(size: str | int) -> int:
    """Return the number of bytes that "2GiB", "500 MB", "2G" or a plain number mean.

    Raises
    ------
    UsageError
        If it is no size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*", str(size).lower())
    if match is None or match[2] not in _UNITS or float(match[1]) == 0:
        raise UsageError(f"{size!r} is not an amount of memory.", hint="write it like 2GiB or 500MB.")
    return int(float(match[1]) * _UNITS[match[2]])


def parse_share(share: str | float) -> float:
    """Return the share from 0 to 1 that "5%", "0.05" or a number means.

    Raises
    ------
    UsageError
        If it is none.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(%?)\s*", str(share))
    value = float(match[1]) / (100.0 if match[2] else 1.0) if match else -1.0
    if not 0.0 <= value <= 1.0:
        raise UsageError(f"{share!r} is not a share.", hint="write it like 5% or 0.05.")
    return value

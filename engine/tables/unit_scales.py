"""Units that differ by a factor, of which a column may have several: `900 g` and `1.2 kg`, `800` and `1.2k`.

unit  ->  the factor that converts its numbers to the unit of the scale
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

ScaleName = Literal["", "magnitude", "bytes", "mass", "length", "time"]
# Letters that are magnitudes beside others only, or of money: 5m are metres or minutes, and 5 B bytes.
_OPEN_MAGNITUDES = ("m", "b", "B")


class Scale(NamedTuple):
    """Units of one kind: the factor of each, the unit that they are converted to, and words for a warning."""

    factors: Mapping[str, float]
    base: str
    description: str

    @property
    def pattern(self) -> str:
        """A regular expression of any of the units; the longest first, and none last."""
        return "|".join(map(re.escape, sorted(self.factors, key=len, reverse=True)))


def _same(factor: float, units: str) -> dict[str, float]:
    return dict.fromkeys(units.split(), factor)


SCALES: dict[str, Scale] = {
    "magnitude": Scale(
        {"": 1.0} | _same(1e3, "k K thousand Tsd Tsd.") | _same(1e5, "lakh lakhs Lakh Lakhs")
        | _same(1e6, "m M mn mln MM mio Mio Mio. million Million") | _same(1e7, "cr Cr crore crores Crore Crores")
        | _same(1e9, "b B bn Bn BN billion Billion Mrd Mrd."),
        "", "magnitudes, as 1.2k is",
    ),
    "bytes": Scale(
        _same(1.0, "B byte bytes") | _same(1e3, "kB KB") | _same(1e6, "MB") | _same(1e9, "GB") | _same(1e12, "TB")
        | {f"{letter}iB": 1024.0**power for power, letter in enumerate("KMGT", 1)},
        "B", "units of bytes",
    ),
    "mass": Scale({"mg": 1e-3, "g": 1.0, "kg": 1e3, "t": 1e6}, "g", "units of mass"),
    "length": Scale({"mm": 1e-3, "cm": 1e-2, "m": 1.0, "km": 1e3}, "m", "units of length"),
    "time": Scale(
        {"ms": 1e-3} | _same(1.0, "s sec secs second seconds") | _same(60.0, "m min mins minute minutes")
        | _same(3600.0, "h hr hrs hour hours") | _same(86400.0, "d day days") | _same(604800.0, "w wk wks week weeks"),
        "s", "units of time",
    ),
}  # fmt: skip


def find_scale(n_numbers: Mapping[str, int], *, is_money: bool = False) -> ScaleName:
    """Return the scale that covers more of a column's numbers than any of its units alone, or "".

    Magnitudes are a scale even if all numbers have the same one.

    Parameters
    ----------
    n_numbers : mapping of unit to int
        How many numbers have it; "" for those without a unit.
    is_money : bool
        Whether the numbers have a currency beside it.
    """
    best: ScaleName = ""
    most = max(n_numbers.values())
    for name, scale in SCALES.items():
        units = {unit: n for unit, n in n_numbers.items() if unit in scale.factors}
        letters = [unit for unit in units if unit and (is_money or unit not in _OPEN_MAGNITUDES)]
        are_sure = name != "magnitude" or bool(letters)
        n_covered = sum(units.values())
        if are_sure and (n_covered > most or (name == "magnitude" and n_covered == most and "" not in units)):
            best, most = name, n_covered  # type: ignore[assignment]
    return best

"""Recognise durations of several parts in texts, and parse them: `1:23:45`, `12:34`, `5 h 30 min`, `PT1H30M`.

    distinct texts  ->  the form: "clock" or "pair" for parts between colons, "units", "iso", "" for none of these
    texts, form     ->  float64 seconds, NaN for other texts; of pairs like 12:34, the smaller of their two units

Beside `1:02:03`, minutes and seconds are what `12:34` means. In a column that has nothing but such texts they may be
hours and minutes as well: the numbers are the same, but for their unit. Times of the day are read like durations.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

DurationForm = Literal["", "clock", "pair", "units", "iso"]
_NUMBER = r"[0-9]+(?:[.][0-9]+)?"
# Of whole texts; the syntax is that of RE2 and of Python. Groups that are not there are 0.
DURATIONS: dict[str, str] = {
    "clock": (
        r"^(?P<sign>[+-]?)(?:(?P<days>[0-9]+)(?: ?(?:d|[Dd]ays?)?,? |[.]))?"
        r"(?:(?P<hours>[0-9]+):)?(?P<minutes>[0-9]+):(?P<seconds>[0-5][0-9](?:[.][0-9]+)?)$"
    ),
    "pair": r"^(?P<sign>[+-]?)(?P<minutes>[0-9]+):(?P<seconds>[0-5][0-9])$",
    "units": (
        rf"(?i)^(?P<sign>[+-]?)(?:(?P<weeks>{_NUMBER}) ?(?:w|wks?|weeks?)[ ,]*)?"
        rf"(?:(?P<days>{_NUMBER}) ?(?:d|days?)[ ,]*)?(?:(?P<hours>{_NUMBER}) ?(?:h|hrs?|hours?)[ ,]*)?"
        rf"(?:(?P<minutes>{_NUMBER}) ?(?:m|mins?|minutes?)[ ,]*)?"
        rf"(?:(?P<seconds>{_NUMBER}) ?(?:s|secs?|seconds?))?$"
    ),
    "iso": (
        rf"^(?P<sign>[+-]?)P(?:(?P<weeks>{_NUMBER})W)?(?:(?P<days>{_NUMBER})D)?"
        rf"(?:T(?:(?P<hours>{_NUMBER})H)?(?:(?P<minutes>{_NUMBER})M)?(?:(?P<seconds>{_NUMBER})S)?)?$"
    ),
}
PART_SECONDS = {"weeks": 604800, "days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}  # the order of the sum
MIN_DURATIONS = 0.9  # of the distinct texts


def find_duration(texts: Sequence[str], *, more_than: int = 0) -> DurationForm:
    """Return the form of durations that nearly all texts have, and more than `more_than` of them; "" if there is none.

    Parameters
    ----------
    texts : sequence of str
        Distinct texts, normalized, without marks of missing values.
    """
    forms: tuple[DurationForm, ...] = ("pair", "clock", "units", "iso")
    found: DurationForm = ""
    for form in forms:
        pattern = re.compile(DURATIONS[form])
        n_alike = sum(any(map(str.isdigit, text)) for text in texts if pattern.fullmatch(text))
        if n_alike > more_than and n_alike >= MIN_DURATIONS * len(texts):
            found, more_than = form, n_alike
    return found


def describe_duration(form: DurationForm) -> str:
    """Return how durations are written and counted."""
    unit = "minutes or seconds, whichever comes after the colon" if form == "pair" else "seconds"
    return f"written as durations, counted in {unit}"


def parse_durations(texts: pa.Array, form: DurationForm) -> NDArray[np.float64]:
    """Return the seconds of texts, NaN for those that are no durations of the form."""
    values = np.full(len(texts), np.nan)
    parts = pc.extract_regex(texts, DURATIONS[form])
    rows = np.flatnonzero(parts.is_valid().to_numpy(zero_copy_only=False))
    parts = parts.drop_null()
    groups = re.compile(DURATIONS[form]).groupindex
    total = np.zeros(len(rows))
    given = np.zeros(len(rows), np.bool_)
    for name, seconds in PART_SECONDS.items():
        if name in groups:
            part = parts.field(name)
            given |= pc.not_equal(part, "").to_numpy(zero_copy_only=False)
            total += seconds * pc.if_else(pc.equal(part, ""), "0", part).cast(pa.float64()).to_numpy()
    negative = pc.equal(parts.field("sign"), "-").to_numpy(zero_copy_only=False)
    values[rows] = np.where(given, np.where(negative, -total, total), np.nan)
    return values

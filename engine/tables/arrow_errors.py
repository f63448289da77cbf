"""Arrow's error messages without the values that they quote: nobody's answers belong into a log."""

from __future__ import annotations

import re

# What follows each of these is a value, or a row.
_VALUE = re.compile(
    r"(Expected \d+ columns, got \d+"
    r"|[Ii]nvalid value|(?:Integer|Float|Decimal) value|Could not convert|Failed to parse string|cannot be parsed"
    r"|would lose data|not in range).*",
    re.DOTALL,
)


def describe_arrow_error(error: BaseException) -> str:
    """Return the first line of an error of Arrow, cut off where it quotes a value or a row."""
    return _VALUE.sub(r"\1", str(error).strip()).split("\n", 1)[0]

"""What a process of the engine's own does without: pandas, when libraries look for it that are handed no data frame.

with without_pandas(): import …     as if it were not installed
arrow_without_pandas()              pyarrow.dataset, imported like that
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _NoPandas:
    """Says that there is no pandas."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        """Raise ImportError for pandas; leave everything else to others."""
        if name == "pandas":
            raise ImportError("pandas is hidden for a moment")


@contextmanager
def without_pandas() -> Iterator[None]:
    """Hide pandas from what is imported inside this block, unless it has been imported before."""
    sys.meta_path.insert(0, _NoPandas)
    try:
        yield
    finally:
        sys.meta_path.remove(_NoPandas)


def arrow_without_pandas() -> None:
    """Import pyarrow.dataset, which imports pandas to know data frames when it sees them: 0.3 s and 30 MB.

    It looks for pandas but once, so this is for processes that nobody hands data frames to. `to_pandas` still works.
    """
    with without_pandas():
        import pyarrow.dataset  # noqa: F401

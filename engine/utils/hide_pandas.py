"""What a process of the engine's own does without: pandas, when libraries look for it that are handed no data frame.

with without_pandas(): import …     as if it were not installed
arrow_without_pandas()              pyarrow.dataset, imported like that
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _NoPandas:
    """Says that there is no pandas, to the thread that made it."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Raise ImportError for pandas; leave everything else to others."""
        if name == "pandas" and threading.get_ident() == self._thread:
            raise ImportError("pandas is hidden for a moment")


@contextmanager
def without_pandas() -> Iterator[None]:
    """Hide pandas from what this thread imports inside the block, unless it has been imported before."""
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def arrow_without_pandas() -> None:
    """Import pyarrow.dataset, which imports pandas to know data frames when it sees them: 0.3 s and 30 MB.

    It looks for pandas but once, so this is for processes that nobody hands data frames to. `to_pandas` still works.
    """
    with without_pandas():
        import pyarrow.dataset  # noqa: F401

"""What `verbose` prints: the log records of a logger, on standard output.

Whoever has set up logging so that these records are written gets them there, and nothing is printed.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def print_log_records(name: str, level: int) -> Iterator[None]:
    """Print the records of a logger that are of this level or above, during the block."""
    logger = logging.getLogger(name)
    if logger.isEnabledFor(level):
        yield
        return
    handler = logging.StreamHandler(sys.stdout)
    previous, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(previous)
        logger.propagate = propagate

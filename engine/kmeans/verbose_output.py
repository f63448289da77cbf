"""What `verbose=1` prints: the log records of K-Means, on standard output.

Whoever has set up logging so that these records (logger `engine.kmeans`, level INFO) are written gets them there, and
nothing is printed.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger("engine.kmeans")


@contextmanager
def print_log_records(verbose: bool) -> Iterator[None]:
    """Print the log records of K-Means during the block, if `verbose`."""
    if not verbose or logger.isEnabledFor(logging.INFO):
        yield
        return
    handler = logging.StreamHandler(sys.stdout)
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate

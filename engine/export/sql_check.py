"""Run an exported statement in a database, and compare its clusters with those that the model assigns.

    statement, blocks of a table, assign  ->  rows, differences, and how many of these rounding to float32 explains

Rows go to a table of the database block by block (sql_databases.py); a deadline interrupts it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.errors import OutOfResourcesError
from engine.export.sql_databases import Database
from engine.utils.array_types import Int32s

CHECKED_ROW = "checked_row"  # the column that takes the place of the id


class Difference(NamedTuple):
    """How many rows were compared, how many got another cluster, and in how many of those rounding can be the cause."""

    rows: int
    differing: int
    within_rounding: int


class Judge(Protocol):
    """What a check asks of a model."""

    def assign(self, rows: pa.Table) -> Int32s:
        """Return the numbers of the rows' clusters."""
        ...

    def within_rounding(self, rows: pa.Table, assigned: Int32s, exported: Int32s) -> NDArray[np.bool_]:
        """Tell which rows are so near to both clusters that rounding scores to float32 can decide."""
        ...


def compare_rows(
    database: Database,
    statement: str,
    blocks: Iterable[pa.Table],
    judge: Judge,
    seconds: float,
    advance: Callable[[int], None],
) -> Difference:
    """Compare the clusters of rows by a database, which is closed then, with those by the model.

    Raises
    ------
    OutOfResourcesError
        If it takes longer than these seconds.
    """
    n_rows = n_differing = n_within = 0
    with closing(database), _deadline(database, seconds) as end:
        for rows in blocks:
            numbered = rows.append_column(CHECKED_ROW, pa.array(np.arange(len(rows))))
            assigned, exported = judge.assign(rows), _clusters(database.select(statement, numbered))
            if time.monotonic() >= end:  # an interrupt between two statements ends none
                raise TimeoutError
            differing = np.flatnonzero(assigned != exported)
            if len(differing):
                within = judge.within_rounding(rows.take(pa.array(differing)), assigned[differing], exported[differing])
                n_within += int(within.sum())
            n_rows, n_differing = n_rows + len(rows), n_differing + len(differing)
            advance(len(rows))
    return Difference(n_rows, n_differing, n_within)


def _clusters(found: pa.Table) -> Int32s:
    """Return the clusters in the order of the rows."""
    clusters: Int32s = found.sort_by(CHECKED_ROW)["cluster"].to_numpy().astype(np.int32)
    return clusters


@contextmanager
def _deadline(database: Database, seconds: float) -> Iterator[float]:
    """Interrupt a database after some seconds, the end of which is yielded, and raise OutOfResourcesError."""
    end = time.monotonic() + seconds
    timer = threading.Timer(seconds, database.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield end
    except Exception as error:
        if time.monotonic() < end:
            raise
        raise OutOfResourcesError(
            f"The check took longer than {seconds:g} seconds.", hint="check fewer rows, or give it more: --deadline."
        ) from error
    finally:
        timer.cancel()

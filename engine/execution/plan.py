"""Where a fit keeps its rows: in memory, or in files beside its target. Decided from what the table says of itself.

    rows, columns and their types, settings, budget  ->  Plan (in memory or streamed; memory, temporary disk, why)

In memory, plain rows live from the pass of statistics to the scores, and K-Means has scores, codes and notes of all
rows. Streamed, the table is read again for each of the three passes, and everything else of one entry a row lies in
mapped files. Results are the same bits. What a number of bytes here stands for was measured: decisions/0010.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from engine.config import FitConfig
from engine.errors import OutOfResourcesError
from engine.execution.local import thread_count
from engine.execution.memory import available_memory, memory_budget
from engine.tables.block import BLOCK_ROWS

# Measured on 1 to 10 million members, kernels compiled before; compiling them takes up to 300 MiB more, once.
BASE = 265 << 20  # bytes of the interpreter, its libraries and kernels
MAP, EXPLAIN = 60 << 20, 110 << 20  # and of what these stages import and keep
NUMBER, OTHER = 8, 8  # bytes of a number in plain rows, and of a text or a list of labels on average
COLUMN = 10  # bytes of a value as a column of Arrow, on average
STATE = 16  # bytes a row of K-Means: label, slack, error and norm
CODE = 16  # codes are padded to so many bytes
PLACE = 9  # bytes a row of the map
NOTED = 1  # byte a value noted for the explanation
KEYS = 16  # bytes a row while ids are compared


@dataclass(frozen=True)
class Plan:
    """Where rows live, what that is expected to take, and why."""

    kind: Literal["in memory", "streamed", "distributed"]
    why: str
    budget_bytes: int
    memory_bytes: int  # of the process' own, at the peak
    disk_bytes: int  # of temporary files

    @property
    def streamed(self) -> bool:
        """Whether arrays of one entry a row lie in files."""
        return self.kind != "in memory"

    def facts(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    def check(self, parent: Path) -> None:
        """Refuse what cannot end well, before any work is done.

        Raises
        ------
        OutOfResourcesError
            If memory or the disk of `parent` is too small.
        """
        free = available_memory()
        limit = min(self.budget_bytes, free)
        if self.memory_bytes > limit:
            named = "--memory" if self.budget_bytes <= free else "the free memory"
            raise OutOfResourcesError(
                f"Even streamed, this fit needs about {_gib(self.memory_bytes)} of memory, "
                f"and {named} is {_gib(limit)}.",
                hint="raise --memory, use fewer --threads, or --skip explain,map.",
            )
        room = shutil.disk_usage(_existing(parent)).free
        if self.disk_bytes > room:
            raise OutOfResourcesError(
                f"This fit needs about {_gib(self.disk_bytes)} for temporary files, and {parent} has {_gib(room)}.",
                hint="choose an --out on a larger disk, or raise --memory.",
            )


def plan_of(
    rows: int,
    schema: pa.Schema,
    settings: FitConfig,
    *,
    components: int | None = None,
    n_features: int = 0,
    streamed: bool = False,
) -> Plan:
    """Choose where rows live.

    Parameters
    ----------
    rows : int
    schema : pyarrow.Schema
        Of the table.
    settings : FitConfig
        `memory` is the budget; without it, a share of what is free.
    components : int, optional
        Once known; before, as many as wanted, or as there are columns.
    n_features : int, default=0
        Once known: the covariance takes their square.
    streamed : bool, default=False
        Whether that is decided already.
    """
    budget = memory_budget(settings.memory)
    names = [name for name in schema.names if name != settings.id]
    n_numbers = sum(not _is_other(schema.field(name).type) for name in names)
    n_others = len(names) - n_numbers
    wanted = settings.pca.n_components
    d = components or (wanted if isinstance(wanted, int) else len(names))
    plain = NUMBER * n_numbers + OTHER * n_others
    under_way = (2 * thread_count() + 1) * BLOCK_ROWS * (COLUMN * len(names) + plain)
    under_way += (2 + thread_count()) * 8 * n_features * n_features
    later = max(0 if "map" in settings.skip else MAP, 0 if "explain" in settings.skip else EXPLAIN)
    noted = 0 if "explain" in settings.skip else NOTED * len(names)
    state = rows * (4 * d + -(-d // CODE) * CODE + STATE + noted)
    mapped = rows * (4 * d + 4 + (0 if "map" in settings.skip else PLACE) + noted)
    in_memory = BASE + max(under_way + rows * plain, state, later + mapped)
    fixed, disk = BASE + max(under_way, later), max(state, mapped, rows * KEYS)
    if settings.cluster.wanted:
        return Plan("distributed", "workers share what lies in files", budget, fixed, disk)
    if in_memory <= budget and not streamed:
        return Plan("in memory", f"about {_gib(in_memory)} fit in {_gib(budget)}", budget, in_memory, 0)
    why = f"in memory it would take about {_gib(in_memory)}, and the budget is {_gib(budget)}"
    return Plan("streamed", why, budget, fixed, disk)


def _is_other(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_list(kind))


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    return folder if folder.exists() else _existing(folder.parent)


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.2f} GiB"

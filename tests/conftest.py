"""Fixtures every test may use."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

import engine
from engine import blocks
from engine.config import FitConfig
from engine.datasets.demo_table import DemoPaths, write_demo
from tests.postgresql_server import postgresql

__all__ = ["postgresql"]  # a fixture

# No deadline: the machine may be shared, and an example may be the first one to load a kernel.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder with the real tables (MovieLens 100K, the surveys, the Netflix titles), or skip."""
    folder = Path(os.environ.get("ROOMS_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the real tables are not at {folder}; set ROOMS_SHARED_DATA to their folder")
    return folder


@pytest.fixture
def block_rows() -> Iterator[Callable[[int], None]]:
    """Return a function that sets BLOCK_ROWS in every loaded engine module that has it from engine.blocks.

    Modules that are first imported during the test are reset after it, too.
    """
    default = blocks.BLOCK_ROWS

    def set_block_rows(n_rows: int) -> None:
        previous = blocks.BLOCK_ROWS
        for name, module in list(sys.modules.items()):
            if name.startswith("engine.") and vars(module).get("BLOCK_ROWS") == previous:
                vars(module)["BLOCK_ROWS"] = n_rows

    yield set_block_rows
    set_block_rows(default)


# Runs that several test files share: a whole fit takes seconds.
N_MEMBERS = 20_000
LEAN = FitConfig.merge({}, skip=["explain", "map", "report"])  # for tests of other stages


@pytest.fixture(scope="session")
def lean() -> FitConfig:
    """Return a configuration that skips the explanation, the map and the report."""
    return LEAN


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoPaths:
    """Write members with planted communities, and return their paths."""
    return write_demo(tmp_path_factory.mktemp("demo"), N_MEMBERS)


@pytest.fixture(scope="session")
def run(demo: DemoPaths, tmp_path_factory: pytest.TempPathFactory) -> engine.Run:
    """Return a whole run on them: twelve clusters, explained, with a small map and a report. Do not change it."""
    quick = FitConfig.merge({}, map={"n_landmarks": 500, "max_iter": 250})
    out = tmp_path_factory.mktemp("runs") / "today"
    return engine.fit(demo.members, out=out, id="user_id", n_clusters=12, config=quick)

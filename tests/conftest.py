"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

import engine
from engine.config import FitConfig
from engine.datasets.demo_table import DemoPaths, write_demo

# On a shared machine no time is a failure; and an example may be the first one to load a kernel.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder with the real tables (MovieLens 100K, the surveys, the Netflix titles), or skip."""
    folder = Path(os.environ.get("ROOMS_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the real tables are not at {folder}; set ROOMS_SHARED_DATA to their folder")
    return folder


# Runs that several test files look at: made once, for a whole job takes seconds.
N_MEMBERS = 20_000
LEAN = FitConfig.merged({}, skip=["explain", "map", "report"])  # for tests that are about none of them


@pytest.fixture(scope="session")
def lean() -> FitConfig:
    """Return a configuration of clusters and nothing else."""
    return LEAN


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoPaths:
    """Write members with planted communities, and return where they are."""
    return write_demo(tmp_path_factory.mktemp("demo"), N_MEMBERS)


@pytest.fixture(scope="session")
def run(demo: DemoPaths, tmp_path_factory: pytest.TempPathFactory) -> engine.Run:
    """Return a whole run on them: twelve clusters, explained, with a small map and a report. Nobody changes it."""
    quick = FitConfig.merged({}, map={"n_landmarks": 500, "max_iter": 250})
    out = tmp_path_factory.mktemp("runs") / "today"
    return engine.fit(demo.members, out=out, id="user_id", n_clusters=12, config=quick)

"""Runs that several test files look at: made once, for a whole job takes seconds."""

from __future__ import annotations

import pytest

import engine
from engine.config import FitConfig
from engine.tables.demo import DemoPaths, write_demo

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

"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

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

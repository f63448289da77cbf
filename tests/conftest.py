"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder with the real tables (MovieLens 100K, the surveys, the Netflix titles), or skip."""
    folder = Path(os.environ.get("ROOMS_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the real tables are not at {folder}; set ROOMS_SHARED_DATA to their folder")
    return folder

"""Whoever waits for kernels to be compiled is told so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

KERNELS = """
import numpy as np
from engine.kernels.cpu.distance import squared_distances, sums_of_runs
sums_of_runs(np.ones(4), np.ones(4), 2)
squared_distances(np.ones(3), np.ones((3, 2)), np.ones(2))
"""


def said_by_a_process(cache: Path) -> str:
    settings = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    return subprocess.run(
        [sys.executable, "-c", KERNELS], env=settings, capture_output=True, text=True, check=True
    ).stderr


def test_compiling_is_said_once_and_loading_from_the_cache_is_not(tmp_path: Path) -> None:
    assert said_by_a_process(tmp_path).count("Compiling kernels") == 1
    assert said_by_a_process(tmp_path) == ""

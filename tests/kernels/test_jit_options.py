"""A process that has to compile kernels logs a notice, once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

KERNELS = """
import numpy as np
from engine.kernels.cpu.distance import block_sums, squared_distances
block_sums(np.ones(4), np.ones(4), 2)
squared_distances(np.ones(3), np.ones((3, 2)), np.ones(2))
"""


def stderr_of_a_process(cache: Path) -> str:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    return subprocess.run(
        [sys.executable, "-c", KERNELS], env=environment, capture_output=True, text=True, check=True
    ).stderr


def test_compiling_is_logged_once_and_loading_from_the_cache_is_not(tmp_path: Path) -> None:
    assert stderr_of_a_process(tmp_path).count("Compiling kernels") == 1
    assert stderr_of_a_process(tmp_path) == ""

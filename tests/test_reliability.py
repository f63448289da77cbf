"""A sample of what benchmarks/reliability.py does to runs: all of it takes an hour, and its figures are committed."""

from __future__ import annotations

import random
import shutil
import sys

import pytest
import reliability


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="needs a C compiler, on Linux")
def test_file_operations_that_fail_leave_a_whole_run() -> None:
    found = reliability.faults(sample=3, rows=300)
    assert found["operations"] > 100
    assert found["fits"] == 3
    assert found["flaws"] == []


def test_bytes_of_a_model_that_change_are_noticed() -> None:
    found = reliability.flip_model_bytes(minutes=0.02, every=97)
    assert found["refused"] > 30
    assert found["flaws"] == []


def test_mutations_change_the_bytes() -> None:
    content = bytes(range(256))
    rng = random.Random(0)
    assert sum(reliability.mutate(content, rng) != content for _ in range(100)) > 90

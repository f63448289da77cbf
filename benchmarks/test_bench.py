"""The cases of `rooms bench`, one stage at a time: `pytest benchmarks/test_bench.py --benchmark-only`.

`ROOMS_BENCH_ROWS` changes the number of rows.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from engine.bench.libraries import STAGES
from engine.bench.output import format_table
from engine.bench.run import bench

ROWS = int(os.environ.get("ROOMS_BENCH_ROWS", "100000"))


@pytest.mark.parametrize("stage", list(STAGES))
def test_a_stage_on_every_device_and_with_every_peer(benchmark: Any, stage: str) -> None:
    report = benchmark.pedantic(
        bench, kwargs={"rows": ROWS, "features": 32, "clusters": 20, "stages": [stage]}, rounds=1
    )
    print("\n" + format_table(report))
    assert any(result.contender == "engine, cpu" for result in report.results)

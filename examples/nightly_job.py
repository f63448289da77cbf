"""A nightly job: fit today's profiles, check the run, assign new users, and compare with the night before.

    python nightly_job.py profiles/ --id user_id --clusters 12 --runs nights [--new new_users.parquet]

Every night leaves `<runs>/<date>/`, a complete run directory or nothing, and `<runs>/<date>-movers.parquet`. Clusters
and map continue those of the night before, so that numbers and places stay. Start a job that was killed again with the
same command: it continues from its last checkpoint, and does not repeat a fit that is complete.

Exit code: 0 if tonight's clusters can be used, 1 if a check failed, 7 if the gate stopped a run that differs too much
from the night before, else that of the error (see docs/cli.md).
"""

from __future__ import annotations

import argparse
import sys
from datetime import date
from pathlib import Path

import engine
from engine.config import FitConfig, GateConfig
from engine.errors import RoomsError


def main() -> int:
    """Run one night, and return the exit code."""
    try:
        return one_night(read_options())
    except RoomsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def one_night(options: argparse.Namespace) -> int:
    """Fit, check, compare and assign; return 1 if a check failed."""
    last = last_night(options.runs, options.night)
    run = fit_tonight(options, last)
    print(f"{run.manifest['rows']:,} profiles in {run.manifest['clusters']} clusters: {run.path / 'report.html'}")

    faults = check_clusters(run, options.smallest)
    if last is not None:
        faults += check_moves(last, run, options.moved, options.runs / f"{options.night}-movers.parquet")
    if options.new is not None:
        out = run.model.assign(options.new, out=options.runs / f"{options.night}-new.parquet", overwrite=True)
        print(f"new users are assigned: {out}")
    for fault in faults:
        print(f"check failed: {fault}", file=sys.stderr)
    return 1 if faults else 0


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Cluster profiles, check the clusters, and compare with last night.")
    parser.add_argument("source", help="the profiles: files, a folder or a glob")
    parser.add_argument("--id", required=True, help="the column that identifies a profile")
    parser.add_argument("--clusters", type=int, default=12, help="the number of clusters")
    parser.add_argument("--runs", type=Path, default=Path("nights"), help="the folder of all nights")
    parser.add_argument("--night", default=date.today().isoformat(), help="the name of tonight's run")
    parser.add_argument("--new", help="new users to assign")
    parser.add_argument(
        "--smallest", type=float, default=0.005, help="least share of everybody that a cluster must have"
    )
    parser.add_argument("--moved", type=float, default=0.2, help="largest share of people that may change clusters")
    return parser.parse_args()


def last_night(runs: Path, night: str) -> engine.Run | None:
    """Return the last complete run before tonight; names of nights are dates, so they sort by time."""
    complete = sorted(path.parent for path in runs.glob("*/_SUCCESS") if path.parent.name < night)
    return engine.Run(complete[-1]) if complete else None


def fit_tonight(options: argparse.Namespace, last: engine.Run | None) -> engine.Run:
    """Fit tonight's table, or return the run if an earlier start of this job has completed it."""
    out = options.runs / options.night
    if (out / "_SUCCESS").exists():
        return engine.Run(out)
    previous = None if last is None else str(last.path)
    config = FitConfig(id=options.id, previous=previous, gate=GateConfig(stop=last is not None))
    return engine.fit(options.source, out=out, n_clusters=options.clusters, config=config, resume=True)


def check_clusters(run: engine.Run, smallest: float) -> list[str]:
    """Return what is wrong with the clusters of a run."""
    clusters = run.clusters.select(["cluster", "share"]).to_pylist()
    return [
        f"cluster {row['cluster']} has {row['share']:.2%} of all profiles; at least {smallest:.2%} are wanted"
        for row in clusters
        if row["share"] < smallest
    ]


def check_moves(last: engine.Run, run: engine.Run, most: float, out: Path) -> list[str]:
    """Say what changed since the last run, write the people who moved, and return what is wrong."""
    comparison = engine.compare(last, run, out=out, overwrite=True)
    print(comparison.describe())
    moved = comparison.facts()["moved_share"]
    return [] if moved <= most else [f"{moved:.1%} of all people moved since {last.path.name}; at most {most:.1%} may"]


if __name__ == "__main__":
    sys.exit(main())

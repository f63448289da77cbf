"""Keep the headline figures of every benchmark run by date and commit, and show how they change.

    python benchmarks/history.py                      a table a benchmark: figure, date, commit, CPU, value
    python benchmarks/history.py --plot trends.png    one panel a figure, one line a CPU (needs matplotlib)
    python benchmarks/history.py --from-git           add the committed versions of results/*.json that are missing

results/NAME.json holds the newest result of every case; results/history/NAME.jsonl one line a run and CPU. Names after
the command choose benchmarks. CPUs are kept apart: figures of two machines make no trend.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
CASE_GROUPS = ("cases", "runs", "sizes")  # entries of a result file that hold cases by name
ROW_KEYS = ("rows", "landmarks", "held_out", "k", "seed")  # what tells the cases of a list from each other
COLUMNS = ("figure", "date", "commit", "cpu", "lanes", "value")

# Figures of a case, as a path of names; what is a list on the way counts with its median.
FIGURES = {
    "pipeline": (
        "rooms_seconds_median", "rooms_cpu_median", "rooms_peak_mib_median", "by_hand_seconds_median",
        "times_faster", "share_of_memory", "rooms_adjusted_rand_index",
    ),
    "dask": (
        "rounds/local/seconds", "rounds/streamed/seconds", "rounds/one worker/seconds", "rounds/cluster of one/seconds",
        "overhead_of_one_worker_seconds/local", "overhead_of_cluster_of_one_seconds/local",
    ),
    "demo": ("seconds", "adjusted_rand_index"),
    "explain": (
        "mean_precision_unseen", "mean_coverage_unseen", "overview_fidelity", "full_fidelity_unseen",
        "explain_share_of_run",
    ),
    "explanations": (
        "summary/rooms/f1", "summary/rooms/precisely_covered", "summary/cart/rooms_ahead_by_precisely_covered",
        "summary/exkmc/rooms_ahead_by_precisely_covered",
    ),
    "export": ("duckdb/ratio_to_assign", "onnx/ratio_to_assign", "duckdb/other_clusters", "onnx/other_clusters"),
    "kmeans": ("results/engine/seconds", "times_faster", "inertia_ratio", "share_of_peak"),
    "many": ("kept_share_least", "nights_with_births_or_deaths", "inertia_over_cold_most"),
    "nights": ("summary/false_stops", "summary/shifts_caught_by_column", "summary/gate_share_of_cpu_median"),
    "pca": ("engine/seconds_least", "engine/times_faster", "engine/error", "engine_streaming/times_faster"),
    "real": ("tables", "fitted", "refused", "clusters"),
    "reliability": ("fits", "kills", "flipped", "mutated"),
    "serve": ("median_us", "least_us"),
    "scale": ("seconds", "cpu_seconds", "own_memory_bytes", "disk_bytes", "adjusted_rand_index"),
    "streaming": (
        "measured/streamed/seconds", "measured/streamed/own_mib", "measured/in memory/seconds", "speed_by_seconds",
        "rooms/seconds", "streamed/measured/seconds", "measured/seconds", "measured/own_mib",
    ),
    "tsne": (
        "rooms/seconds", "rooms/kl", "times_faster_than_openTSNE", "rows_a_second_with_6_steps",
        "clusters/seconds", "recall_of_all", "accuracy_placed",
    ),
}  # fmt: skip


def record(path: Path, document: dict[str, Any]) -> None:
    """Write a result file, and append the figures of the cases that were measured anew to its history."""
    earlier = json.loads(path.read_text()) if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, indent=1) + "\n"
    path.write_text(text)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    for line in lines(path.stem, json.loads(text), earlier, today, _head()):
        append(history_of(path), line)


def history_of(path: Path) -> Path:
    """Return where the history of a result file lies."""
    return path.parent / "history" / f"{path.stem}.jsonl"


def lines(
    name: str, document: dict[str, Any], earlier: dict[str, Any], date: str, commit: str
) -> Iterator[dict[str, Any]]:
    """Yield one history line a CPU: the figures of all cases of a result file that an earlier version has not."""
    machine, known = document.get("machine", {}), cases(earlier)
    lanes = re.search(r"_(\d+)_lanes", name)
    found: dict[str, dict[str, float]] = {}
    for case, result in cases(document).items():
        if case not in known or _measured(known[case]) != _measured(result):
            cpu = result.get("cpu", machine.get("cpu", "unknown")) if case else machine.get("cpu", "unknown")
            found.setdefault(cpu, {}).update(headline(name, case, result))
    for cpu, figures in found.items():
        if figures:
            yield {
                "date": date, "commit": commit, "cpu": cpu,
                "lanes": machine.get("lanes") or (int(lanes[1]) if lanes else None), "figures": figures,
            }  # fmt: skip


def cases(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the cases of a result file by name: its entries, rows of its lists, and under "" the whole file."""
    found = {"": document} if document else {}
    for name, entry in document.items():
        if name in CASE_GROUPS and isinstance(entry, dict):
            found |= {case: result for case, result in entry.items() if isinstance(result, dict)}
        elif isinstance(entry, list):
            rows = [row for row in entry if isinstance(row, dict) and _row_name(row)]
            found |= {f"{name} {_row_name(row)}": row for row in rows}
        elif isinstance(entry, dict) and name != "machine":
            found[name] = entry
    return found


def _row_name(row: dict[str, Any]) -> str:
    return ", ".join(f"{key} {row[key]}" for key in ROW_KEYS if key in row)


def _measured(case: dict[str, Any]) -> dict[str, Any]:
    """Return a case without the CPU, which is noted only once another machine has written the file."""
    return {name: value for name, value in case.items() if name != "cpu"}


def headline(name: str, case: str, result: dict[str, Any]) -> dict[str, float]:
    """Return the headline figures of one case, flat: "case: figure" to number."""
    found = {}
    for figure in FIGURES.get(re.split(r"[-_]", name)[0], ()):
        value = _number(result, figure.split("/"))
        if value is not None:
            found[f"{case}: {figure}" if case else figure] = round(value, 6) if abs(value) > 1e-3 else value
    return found


def _number(value: Any, path: list[str]) -> float | None:
    if isinstance(value, list):
        found = [number for one in value if (number := _number(one, path)) is not None]
        return statistics.median(found) if found else None
    if path:
        return _number(value.get(path[0]), path[1:]) if isinstance(value, dict) else None
    return float(value) if isinstance(value, int | float) else None


def append(path: Path, line: dict[str, Any]) -> None:
    """Append a line; cases that one run writes one after another share a line."""
    history = read(path)
    last = history[-1] if history else {}
    same_run = all(last.get(key) == line[key] for key in ("date", "commit", "cpu", "lanes"))
    if same_run and not last["figures"].keys() & line["figures"].keys():
        last["figures"] |= line["figures"]
    else:
        history.append(line)
    _write(path, history)


def read(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a history, oldest first; none if there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _write(path: Path, history: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in history))


def merged(history: list[dict[str, Any]], older: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a history with those older lines that it lacks, by date; a line that it holds whole is not repeated."""
    missing = [
        line
        for line in older
        if not any(
            line["cpu"] == known["cpu"] and line["figures"].items() <= known["figures"].items() for known in history
        )
    ]
    return sorted([*missing, *history], key=lambda line: line["date"])


def from_git(path: Path) -> list[dict[str, Any]]:
    """Return the history of a result file that git holds, dated by the commits that changed it."""
    log = _git(
        "log", "--follow", "--find-renames=100%", "--diff-filter=d", "--name-only", "--date=format-local:%Y-%m-%d",
        "--format=commit %h %cd", "HEAD", "--", path.name, folder=path.parent,
    )  # fmt: skip
    found: list[dict[str, Any]] = []
    earlier: dict[str, Any] = {}
    for commit, date, name in reversed(re.findall(r"commit (\w+) (\S+)\s+(\S+)", log)):
        document = json.loads(_git("show", f"{commit}:{name}", folder=path.parent))
        found += lines(path.stem, document, earlier, date, commit)
        earlier = document
    return found


def _git(*command: str, folder: Path) -> str:
    run = subprocess.run(
        ["git", *command], cwd=folder, check=True, capture_output=True, text=True, env=os.environ | {"TZ": "UTC"}
    )
    return run.stdout


def _head() -> str:
    """Return the short hash of HEAD, with "+changes" if anything but results differs from it."""
    here = RESULTS.parent
    try:
        head = _git("rev-parse", "--short", "HEAD", folder=here).strip()
        changes = _git("status", "--porcelain", "--", ":/", ":(exclude,top)benchmarks/results", folder=here)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"  # a copy without git
    return head + ("+changes" if changes else "")


def by_figure(history: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return, by figure, the lines that have it, each with its "value"."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in history:
        for figure, value in line["figures"].items():
            found.setdefault(figure, []).append(line | {"figure": figure, "value": value})
    return found


def table(history: list[dict[str, Any]]) -> str:
    """Return a history as text: the runs of every figure in order, and its name beside the first of them."""
    rows = [COLUMNS]
    for runs in by_figure(history).values():
        for place, run in enumerate(runs):
            shown = run | {
                "figure": "" if place else run["figure"],
                "lanes": run["lanes"] or "",
                "value": f"{run['value']:g}",
            }
            rows.append(tuple(str(shown[column]) for column in COLUMNS))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def plot(histories: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw one panel a figure, runs from left to right, one line a CPU."""
    from matplotlib.figure import Figure

    panels = [
        (f"{name}: {figure}", runs)
        for name, history in histories.items()
        for figure, runs in by_figure(history).items()
    ]
    n_columns = 4
    n_rows = max(1, -(-len(panels) // n_columns))
    figure = Figure(figsize=(4 * n_columns, 2.6 * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for panel, (title, runs) in zip(axes, panels, strict=False):
        for cpu in dict.fromkeys(run["cpu"] for run in runs):
            own = [(place, run["value"]) for place, run in enumerate(runs) if run["cpu"] == cpu]
            panel.plot(*zip(*own, strict=True), "o-", label=cpu)
        panel.set_xticks(
            range(len(runs)), [f"{run['date'][5:]} {run['commit']}" for run in runs], rotation=90, fontsize=5
        )
        panel.set_title(title, fontsize=6)
        panel.tick_params(axis="y", labelsize=6)
        panel.grid(alpha=0.3)
        panel.legend(fontsize=5)
    for panel in axes[len(panels) :]:
        panel.set_axis_off()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Print or draw the history, or complete it from git."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="benchmarks, as their result files are called; all if none is named")
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    parser.add_argument("--from-git", action="store_true")
    options = parser.parse_args()
    if options.from_git:
        for path in sorted(RESULTS.glob("*.json")):
            _write(history_of(path), merged(read(history_of(path)), from_git(path)))
    known = {path.stem: read(path) for path in sorted((RESULTS / "history").glob("*.jsonl"))}
    chosen = {name: known[name] for name in options.names} if options.names else known
    if options.plot:
        plot(chosen, options.plot)
    else:
        print("\n\n".join(f"{name}\n{table(history)}" for name, history in chosen.items()))


if __name__ == "__main__":
    main()

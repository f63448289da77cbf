"""Summarize a run: a few lines for people, one JSON object for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.kmeans.stability import STABLE, format_found_again
from engine.run import Run
from engine.utils.domain_words import DomainWords
from engine.utils.formatting import format_percent

MAX_TRAITS = 3  # of a cluster


def run_facts(run: Run) -> dict[str, Any]:
    """Return the key figures of a run as JSON values."""
    manifest = run.manifest
    names = ("rows", "features", "components", "variance_explained", "clusters", "clusters_reason")
    return {
        "out": str(run.path),
        **{
            name: manifest[name]
            for name in (*names, "clusters_notes", "clusters_runner_up", "inertia", "iterations", "device")
        },
        "device_reason": manifest["device_reason"],
        "seed": manifest["seed"],
        "sizes": run.clusters["size"].to_pylist(),
        "seconds": round(sum(stage["seconds"] for stage in manifest["stages"]), 3),
        "stages": {stage["stage"]: stage["seconds"] for stage in manifest["stages"]},
    }


def format_summary(run: Run, extra: dict[str, Any]) -> str:
    """Return the key figures of a run as text, with a line for every entry of `extra` that is not None."""
    facts = run_facts(run)
    lines = [
        f"{facts['rows']:,} profiles, {facts['features']} features, {facts['components']} components "
        f"({facts['variance_explained']:.0%} of the variance)",
        f"{_count_clusters(facts['clusters'])}: {facts['clusters_reason']}",
        *_cluster_lines(run),
        f"{facts['seconds']:.1f} s on {facts['device']} ({facts['device_reason']})",
        *(f"{name.replace('_', ' ')}: {value}" for name, value in extra.items() if value is not None),
        f"written to {run.path}",
    ]
    return "\n".join(lines)


def cluster_facts(run: Run) -> list[dict[str, Any]]:
    """Return number, name, size, share, sureness and the strongest traits of every cluster, the largest first."""
    explained = (run.path / "personas.json").is_file()
    keys = ("what", "here", "everybody")
    traits = {
        persona["cluster"]: [{key: trait[key] for key in keys} for trait in persona.get("profile", [])[:MAX_TRAITS]]
        for persona in (run.personas if explained else [])
    }
    figures = ("cluster", "size", "share", "silhouette", "stability", "found_again")  # 0.1 lacks the last three
    return [
        {name: row.get(name) for name in figures}
        | {"name": row.get("persona"), "traits": traits.get(row["cluster"], [])}
        for row in sorted(run.clusters.to_pylist(), key=lambda row: -row["size"])
    ]


def format_clusters(clusters: Sequence[dict[str, Any]], words: DomainWords) -> str:
    """Return the clusters as a table of lines: number, size, share, sureness and name, and the traits below."""
    lines = [f"{'cluster':>7} {'size':>13} {'share':>8} {'found again':>12}  name"]
    for row in clusters:
        sure = "" if row["stability"] is None else format_found_again(row["stability"])
        sure += " !" if row["stability"] is not None and row["stability"] < STABLE else ""
        figures = f"{row['cluster']:>7} {row['size']:>13,} {format_percent(row['share']):>8} {sure:>12}"
        lines.append(f"{figures}  {row['name'] or ''}".rstrip())
        if row["traits"]:
            traits = (
                f"{trait['what']} {trait['here']} ({words.everybody}: {trait['everybody']})" for trait in row["traits"]
            )
            lines.append(" " * 45 + "; ".join(traits))
    if any(row["stability"] is not None and row["stability"] < STABLE for row in clusters):
        lines.append(
            "! not a stable group: clustered again on other samples of the rows, less than "
            f"{format_percent(STABLE)} of it is found again on average"
        )
    return "\n".join(lines)


def _count_clusters(k: int) -> str:
    return f"{k} clusters" if k > 1 else "no clusters (all rows in one)"


def _cluster_lines(run: Run) -> list[str]:
    """Return a line per cluster, largest first: number, size, share, persona; without personas, one line of sizes."""
    clusters = sorted(run.clusters.to_pylist(), key=lambda row: -row["size"])
    if not all(row.get("persona") for row in clusters):
        return ["sizes: " + ", ".join(f"{row['size']:,}" for row in clusters)]
    return [
        f"{row['cluster']:>5} {row['size']:>13,} {format_percent(row['share']):>8}  {row['persona']}"
        for row in clusters
    ]

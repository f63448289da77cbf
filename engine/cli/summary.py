"""What a run comes down to: a few lines for people, one object for programs."""

from __future__ import annotations

from typing import Any

from engine.run import Run
from engine.utils.formatting import percent


def facts(run: Run) -> dict[str, Any]:
    """Return the run's headline figures as plain JSON values."""
    manifest = run.manifest
    names = ("rows", "features", "components", "variance_explained", "clusters", "clusters_reason", "inertia")
    return {
        "out": str(run.path),
        **{name: manifest[name] for name in (*names, "iterations", "device", "device_reason", "seed")},
        "sizes": run.clusters["size"].to_pylist(),
        "seconds": round(sum(stage["seconds"] for stage in manifest["stages"]), 3),
        "stages": {stage["stage"]: stage["seconds"] for stage in manifest["stages"]},
    }


def summary(run: Run, extra: dict[str, Any]) -> str:
    """Return the same for people."""
    found = facts(run)
    lines = [
        f"{found['rows']:,} profiles, {found['features']} features, {found['components']} components "
        f"({found['variance_explained']:.0%} of the variance)",
        f"{found['clusters']} clusters: {found['clusters_reason']}",
        *_clusters(run),
        f"{found['seconds']:.1f} s on {found['device']} ({found['device_reason']})",
        *(f"{name.replace('_', ' ')}: {value}" for name, value in extra.items() if value is not None),
        f"written to {run.path}",
    ]
    return "\n".join(lines)


def _clusters(run: Run) -> list[str]:
    """Return one line a cluster, the largest first: id, size, share and persona; one line for all without personas."""
    found = sorted(run.clusters.to_pylist(), key=lambda row: -row["size"])
    if not all(row.get("persona") for row in found):
        return ["sizes: " + ", ".join(f"{row['size']:,}" for row in found)]
    return [f"{row['cluster']:>5} {row['size']:>13,} {percent(row['share']):>8}  {row['persona']}" for row in found]

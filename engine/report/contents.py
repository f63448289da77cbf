"""What a report shows of a run, read from its directory and put into words; nothing is computed anew.

runs/today/  ->  Contents
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import expm1
from pathlib import Path
from typing import Any

import pyarrow.csv
import pyarrow.parquet as pq
import yaml

from engine.features.encoding_plan import DAYS_PER_YEAR, CategoryPlan, LabelPlan, NumberPlan, Plan
from engine.model.files import read_model
from engine.report import charts
from engine.report.palette import palette
from engine.utils.formatting import capitalised, clean, column_words, iso_day, people, percent, plain_number


@dataclass(frozen=True)
class Contents:
    """Everything the template needs: plain values, texts unescaped, and the charts."""

    manifest: dict[str, Any]
    clusters: list[dict[str, Any]]
    rules: dict[str, Any] | None
    heat: dict[str, Any] | None
    min_people: int
    min_precision: float
    elbow: list[dict[str, Any]]
    columns: list[dict[str, str]]
    facts: list[tuple[str, str]]
    charts: dict[str, charts.Figure]


def read_contents(folder: Path) -> Contents:
    """Read a run directory; rules, personas and map may be absent."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    model, arrays = read_model(folder / "model")
    plan = Plan.model_validate(model["plan"])
    rules, personas = (_optional(folder / name) for name in ("rules.json", "personas.json"))
    table = pq.read_table(folder / "clusters.parquet", columns=["cluster", "size", "share"])
    clusters = _clusters(table.to_pylist(), personas, rules)
    names, sizes = [c["name"] for c in clusters], [c["size"] for c in clusters]
    elbow = pyarrow.csv.read_csv(folder / "elbow.csv").to_pydict()
    figures = {
        "sizes": charts.sizes_chart(names, sizes),
        "variance": charts.variance_chart(arrays["pca.explained_variance_ratio_"].tolist()),
    }
    if len(elbow["k"]) > 1:
        figures["elbow"] = charts.elbow_chart(elbow)
    heat = personas["contrasts"] if personas else None
    if heat and heat["features"]:
        figures["heat"] = charts.heat_chart(heat["features"], heat["differences"], names)
    if (folder / "map.parquet").is_file():
        figures["map"] = read_map(folder / "map.parquet", names, sizes)
    rows = [dict(zip(elbow, values, strict=True)) for values in zip(*elbow.values(), strict=True)]
    settings = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["explain"]
    return Contents(
        manifest, clusters, rules, heat, settings["min_people"], settings["min_precision"], rows,
        _columns(manifest, plan), _facts(manifest), figures,
    )  # fmt: skip


def read_map(path: Path, names: list[str], sizes: list[int]) -> charts.Figure:
    """Return the chart of a map.parquet, whose rows are landmarks with `cluster`, `map_x` and `map_y`."""
    table = pq.read_table(path, columns=["cluster", "map_x", "map_y"])
    x, y, cluster = (table[name].to_numpy() for name in ("map_x", "map_y", "cluster"))
    return charts.map_chart(x, y, cluster, names, sizes)


def cluster_names(folder: Path, n_clusters: int) -> list[str]:
    """Return the personas' names, or "Cluster 0" and so on for a run that has none."""
    personas = _optional(folder / "personas.json")
    if personas is None:
        return [f"Cluster {c}" for c in range(n_clusters)]
    return [persona["name"] for persona in personas["personas"]]


def _optional(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def _clusters(
    table: list[dict[str, Any]], personas: dict[str, Any] | None, rules: dict[str, Any] | None
) -> list[dict[str, Any]]:
    colours = palette(len(table))
    found = []
    for row in table:
        c = row["cluster"]
        persona = personas["personas"][c] if personas else {"name": f"Cluster {c}"}
        found.append(
            {
                "cluster": c,
                "size": row["size"],
                "people": people(row["size"]),
                "share": percent(row["share"]),
                "colour": colours[c],
                "name": persona["name"],
                "persona": persona if personas else None,
                "rules": rules["clusters"][c] if rules else None,
            }
        )
    return found


def _columns(manifest: dict[str, Any], plan: Plan) -> list[dict[str, str]]:
    plans = {column.column: column for column in plan.columns}
    found = []
    for column in manifest["columns"]:
        used = plans.get(column["column"])
        done = _done(used, plan.reference_day) if used is not None else "left out"
        found.append({"name": clean(column["column"]), "role": column["role"], "why": column["reason"], "done": done})
    return found


def _done(plan: NumberPlan | CategoryPlan | LabelPlan, reference_day: float) -> str:
    """Say what was done to a column before it was clustered."""
    if isinstance(plan, NumberPlan):
        if plan.role == "date":
            fill = iso_day(reference_day - plan.fill * DAYS_PER_YEAR)
            done = [f"years before {iso_day(reference_day)}", f"missing counts as {fill}"]
        else:
            done = [f"missing counts as {_number(plan.fill)}"]
        if plan.logarithm:
            done.append("logarithm taken")
        if plan.role not in ("boolean", "date"):
            low, high = (expm1(v) if plan.logarithm else v for v in (plan.low, plan.high))
            done.append(f"clipped to {_number(low)} … {_number(high)}")
    elif isinstance(plan, CategoryPlan):
        done = [f"{len(plan.categories)} most frequent kept apart, others taken together"]
        if not plan.indicator:
            done.append(f"missing counts as {clean(plan.categories[0])}")
    else:
        done = [f"{len(plan.labels)} most frequent labels kept apart, others taken together"]
    if plan.indicator:
        done.append("missing noted as such")
    return capitalised("; ".join(done))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) else plain_number(value, spread=abs(value) / 10)


def _facts(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    source = manifest["input"]
    files = len(source.get("files", []))
    return [
        ("Made", manifest["created"]),
        (
            "Input",
            f"{source['format']}, {manifest['rows']:,} rows" + (f", {files} file{'s' * (files > 1)}" if files else ""),
        ),
        ("Matrix", f"{manifest['features']} features of {len(manifest['columns'])} columns"),
        ("Components", f"{manifest['components']}, {percent(manifest['variance_explained'])} of the variance"),
        ("Clusters", f"{manifest['clusters']}: {manifest['clusters_reason']}"),
        ("Seed", str(manifest["seed"])),
        ("Device", f"{manifest['device']} ({manifest['device_reason']})"),
        ("rooms engine", manifest["engine"]),
        ("Python", f"{manifest['python']}, {manifest['platform']}"),
        *((column_words(name), version) for name, version in manifest["libraries"].items()),
    ]

"""Read what a report shows from a run directory and format it; nothing is computed again.

run directory  ->  ReportContents
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

from engine.features.encoding_plan import DAYS_PER_YEAR, CategoryPlan, EncodingPlan, LabelPlan, NumberPlan
from engine.kmeans.stability import FOUND_AGAIN, STABLE, format_found_again
from engine.model.files import read_model
from engine.report import charts
from engine.report.charts import Chart
from engine.report.palette import palette
from engine.utils.domain_words import DEFAULT_WORDS, DomainWords
from engine.utils.formatting import (
    capitalize_first,
    column_words,
    format_iso_day,
    format_number,
    format_percent,
    printable_text,
)

MAX_BOXES = 60  # numbers that box plots can be chosen of


@dataclass(frozen=True)
class ReportContents:
    """The contents of a report: plain values, unescaped texts, and the charts."""

    manifest: dict[str, Any]
    clusters: list[dict[str, Any]]
    rules: dict[str, Any] | None
    features: list[dict[str, Any]]
    words: DomainWords
    min_people: int
    min_precision: float
    elbow: list[dict[str, Any]]
    columns: list[dict[str, str]]
    facts: list[tuple[str, str]]
    gate: dict[str, Any] | None
    lineage: dict[str, Any] | None
    charts: dict[str, Chart]
    boxes: list[tuple[str, Chart]]


def read_contents(folder: Path) -> ReportContents:
    """Read a run directory; rules, personas and map may be absent."""
    folder = folder.absolute()
    manifest: dict[str, Any] = {"clusters_notes": [], "clusters_runner_up": None}  # which runs of version 0.1 lack
    manifest |= json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    model, arrays = read_model(folder / "model")
    plan = EncodingPlan.model_validate(model["plan"])
    rules, personas = (_read_optional_json(folder / name) for name in ("rules.json", "personas.json"))
    features = (_read_optional_json(folder / "features.json") or {"features": []})["features"]
    settings = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["explain"]
    words = read_domain_words(folder)
    table = pq.read_table(folder / "clusters.parquet")
    names = [n for n in ("cluster", "size", "share", "silhouette", "stability") if n in table.column_names]
    clusters = _list_clusters(table.select(names).to_pylist(), personas, rules, words)
    names, sizes, numbers = ([c[key] for c in clusters] for key in ("name", "size", "cluster"))
    elbow = pyarrow.csv.read_csv(folder / "elbow.csv").to_pydict()
    for name in ("stability", "runner_up"):
        elbow.setdefault(name, [None] * len(elbow["k"]))
    run_charts = {
        "variance": charts.variance_chart(arrays["pca.explained_variance_ratio_"].tolist()),
    }
    if len(elbow["k"]) > 1:
        run_charts["elbow"] = charts.elbow_chart(elbow)
    boxes = _list_boxes(features, names, numbers)
    if boxes:
        run_charts["box"] = boxes[0][1]
    if (folder / "map.parquet").is_file():
        run_charts["map"] = read_map_chart(folder / "map.parquet", names, sizes, numbers, words)
    gate = _read_optional_json(folder / "gate.json")
    if gate:
        run_charts["moves"] = charts.moves_chart(gate["changes"], words)
    lineage = _read_optional_json(folder / "lineage.json")
    if lineage and len(lineage["nights"]) > 1:
        run_charts["history"] = charts.history_chart(lineage, words)
    rows = [dict(zip(elbow, values, strict=True)) for values in zip(*elbow.values(), strict=True)]
    return ReportContents(
        manifest, clusters, rules, features, words, settings["min_people"], settings["min_precision"], rows,
        _list_columns(manifest, plan), _list_run_facts(manifest), gate, lineage, run_charts, boxes,
    )  # fmt: skip


def read_map_chart(path: Path, names: list[str], sizes: list[int], numbers: list[int], words: DomainWords) -> Chart:
    """Return the chart of a map.parquet, whose rows are landmarks with `cluster`, `map_x` and `map_y`."""
    table = pq.read_table(path.absolute(), columns=["cluster", "map_x", "map_y"])
    x, y, cluster = (table[name].to_numpy() for name in ("map_x", "map_y", "cluster"))
    return charts.map_chart(x, y, cluster, names, sizes, numbers, words)


def read_domain_words(folder: Path) -> DomainWords:
    """Return what the rows of a run are called, by its settings; runs of version 0.1 have none."""
    settings = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["explain"]
    return DomainWords.of(settings.get("domain", DEFAULT_WORDS.plural))


def read_cluster_names(folder: Path, numbers: list[int]) -> list[str]:
    """Return the names of the personas, or "Cluster 0" and so on, by their numbers, for a run without personas."""
    personas = _read_optional_json(folder / "personas.json")
    if personas is None:
        return [f"Cluster {number}" for number in numbers]
    return [persona["name"] for persona in personas["personas"]]


def _read_optional_json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def _list_boxes(features: list[dict[str, Any]], names: list[str], numbers: list[int]) -> list[tuple[str, Chart]]:
    """Return title and box plots of each number, those of the largest importance first."""
    boxes: list[tuple[str, Chart]] = []
    for feature in features:
        quantiles = [cell.get("box") if cell else None for cell in feature["clusters"]]
        if any(quantiles) and len(boxes) < MAX_BOXES:
            boxes.append((feature["what"], charts.box_chart(quantiles, names, numbers)))
    return boxes


def _list_clusters(
    table: list[dict[str, Any]], personas: dict[str, Any] | None, rules: dict[str, Any] | None, words: DomainWords
) -> list[dict[str, Any]]:
    colors = palette(row["cluster"] for row in table)
    largest = max(row["size"] for row in table)
    clusters = []
    for c, row in enumerate(table):
        number = row["cluster"]
        # Runs of version 0.1 know nothing of stability.
        persona: dict[str, Any] = {"stability": None, "profile": []} | (
            personas["personas"][c] if personas else {"name": f"Cluster {number}"}
        )
        clusters.append(
            {
                "cluster": number,
                "size": row["size"],
                "people": words.count(row["size"]),
                "share": format_percent(row["share"]),
                "share_of_largest": row["size"] / max(largest, 1),
                "silhouette": row.get("silhouette"),
                **_describe_sureness(row.get("stability")),
                "color": colors[c],
                "name": persona["name"],
                "persona": persona if personas else None,
                "has_lifts": any("lift" in contrast for contrast in persona.get("contrasts", [])),
                "rules": rules["clusters"][c] if rules else None,
            }
        )
    return clusters


def _describe_sureness(stability: float | None) -> dict[str, Any]:
    """Return how sure a cluster is, as a class of the style sheet and in a few words."""
    if stability is None:
        return {"sureness": "", "sureness_words": ""}
    found = f"{format_found_again(stability)} found again"
    if stability < STABLE:
        return {"sureness": "weak", "sureness_words": f"not stable: {found}"}
    return {"sureness": "good" if stability >= FOUND_AGAIN else "fair", "sureness_words": found}


def _list_columns(manifest: dict[str, Any], plan: EncodingPlan) -> list[dict[str, str]]:
    plans = {column.column: column for column in plan.columns}
    columns = []
    for column in manifest["columns"]:
        column_plan = plans.get(column["column"])
        encoding = "left out" if column_plan is None else _describe_encoding(column_plan, plan.reference_day)
        name = printable_text(column["column"])
        columns.append({"name": name, "role": column["role"], "reason": column["reason"], "encoding": encoding})
    return columns


def _describe_encoding(plan: NumberPlan | CategoryPlan | LabelPlan, reference_day: float) -> str:
    """Describe how a column was encoded as features."""
    if isinstance(plan, NumberPlan):
        if plan.role == "date":
            fill = format_iso_day(reference_day - plan.fill * DAYS_PER_YEAR)
            steps = [f"years before {format_iso_day(reference_day)}", f"missing counts as {fill}"]
        else:
            steps = [f"missing counts as {_format_value(plan.fill)}"]
        if plan.logarithm:
            steps.append("logarithm taken, of 0 for values below" if plan.below_zero else "logarithm taken")
        if plan.role not in ("boolean", "date"):
            low, high = (expm1(v) if plan.logarithm else v for v in (plan.low, plan.high))
            steps.append(f"clipped to {_format_value(low)} … {_format_value(high)}")
    elif isinstance(plan, CategoryPlan):
        steps = [f"{len(plan.categories)} most frequent kept apart, others taken together"]
        if not plan.indicator:
            steps.append(f"missing counts as {printable_text(plan.categories[0])}")
    else:
        steps = [f"{len(plan.labels)} most frequent labels kept apart, others taken together"]
    if plan.indicator:
        steps.append("missing noted as such")
    return capitalize_first("; ".join(steps))


def _format_value(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) else format_number(value, spread=abs(value) / 10)


def _describe_naming(naming: dict[str, Any]) -> str:
    """Say how many clusters a function of the user's own named, and why it named no more."""
    words = f"{naming['named']} of {naming['asked']} clusters that {printable_text(naming['function'])} was asked about"
    refused = "; ".join(printable_text(reason) for reason in naming["refused"])
    return f"{words}; not all, because {refused}" if refused else words


def _list_run_facts(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    source = manifest["input"]
    files = len(source.get("files", []))
    return [
        ("Made", manifest["created"]),
        (
            "Input",
            f"{source['format']}, {manifest['rows']:,} rows" + (f", {files} file{'s' * (files > 1)}" if files else ""),
        ),
        ("Matrix", f"{manifest['features']} features of {len(manifest['columns'])} columns"),
        ("Components", f"{manifest['components']}, {format_percent(manifest['variance_explained'])} of the variance"),
        ("Clusters", f"{manifest['clusters']}: {manifest['clusters_reason']}"),
        *([("Names", _describe_naming(manifest["naming"]))] if manifest.get("naming") else []),
        *([("Metric", "cosine: directions from the mean")] if manifest.get("metric") == "cosine" else []),
        ("Seed", str(manifest["seed"])),
        ("Seconds", f"{sum(stage['seconds'] for stage in manifest['stages']):.1f}"),
        ("Device", f"{manifest['device']} ({manifest['device_reason']})"),
        ("rooms engine", manifest["engine"]),
        ("Python", f"{manifest['python']}, {manifest['platform']}"),
        *((column_words(name), version) for name, version in manifest["libraries"].items()),
    ]

"""Runs and models as notebooks show them: a few facts and a table, plain HTML with every text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from engine.report.contents import cluster_names
from engine.report.palette import palette
from engine.utils.formatting import clean, percent

if TYPE_CHECKING:
    from engine.model.model import Model
    from engine.run import Run


def run_html(run: Run) -> str:
    """Return a run: its headline, and name, size and share of every cluster."""
    manifest = run.manifest
    seconds = sum(stage["seconds"] for stage in manifest["stages"])
    head = (
        f"{manifest['clusters']} clusters of {manifest['rows']:,} people; {manifest['components']} components, "
        f"{percent(manifest['variance_explained'])} of the variance; {seconds:.1f} s on {manifest['device']}"
    )
    names, colours = cluster_names(run.path, manifest["clusters"]), palette(manifest["clusters"])
    sizes = zip(run.clusters["size"].to_pylist(), run.clusters["share"].to_pylist(), strict=True)
    rows = [
        [f'<span style="color:{colours[c]}">\u25a0</span> {c}', escape(clean(names[c])), f"{size:,}", percent(share)]
        for c, (size, share) in enumerate(sizes)
    ]
    return _html(f"Run {run.path}", head, ("cluster", "persona", "people", "share"), rows)


def model_html(model: Model) -> str:
    """Return a model: what it assigns to, and the columns a table must have."""
    encoder = model.encoder
    head = (
        f"Assigns to {model.n_clusters} clusters by {encoder.n_features} features "
        f"in {model.centres.shape[1]} components; id column: {model.id or 'none'}"
    )
    rows = [[escape(clean(plan.column)), plan.role, escape(clean(plan.unit or ""))] for plan in encoder.plan.columns]
    return _html("Model", head, ("column", "role", "unit"), rows)


def _html(title: str, head: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    heads = "".join(f"<th>{name}</th>" for name in columns)
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f"<div><strong>{escape(clean(title))}</strong><p>{escape(head)}</p>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>"
    )

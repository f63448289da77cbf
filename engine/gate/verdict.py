"""The verdict on a run: what differs from the earlier one, and whether it is stopped; gate.json and the page gate.md.

changes of columns, findings of clusters, limits  ->  Verdict  ->  gate.json for programs, gate.md for people
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from engine.config import GateConfig
from engine.features.distributions import TableDistributions
from engine.gate.clusters import ClusterFacts, compare_clusters
from engine.gate.columns import CHECKS_PER_COLUMN, ColumnChange, compare_columns
from engine.gate.findings import Finding
from engine.utils.formatting import format_percent, printable_text

FILE, PAGE = "gate.json", "gate.md"
FORMAT = 1
SHOWN_COLUMNS = 10  # of those that differ most, on the page
NO_DISTRIBUTIONS = (
    "{} was fitted by a version that kept no statistics of its table: columns are not checked, only clusters are"
)
NOBODY_MOVES = "No id is in both runs: moves are not checked"


@dataclass(frozen=True)
class Verdict:
    """What the gate says of a run.

    Attributes
    ----------
    earlier : str
        The run that it was compared with.
    columns : tuple of ColumnChange or None
        None if the earlier run kept no statistics of its table.
    clusters : ClusterFacts
    cluster_findings : tuple of Finding
    limits : GateConfig
    """

    earlier: str
    columns: tuple[ColumnChange, ...] | None
    clusters: ClusterFacts
    cluster_findings: tuple[Finding, ...]
    limits: GateConfig

    @cached_property
    def findings(self) -> list[Finding]:
        """Everything that is beyond its limit: columns first, those that differ most before the others."""
        by_column = sorted(self.columns or (), key=lambda change: -change.js)
        return [finding for change in by_column for finding in change.findings] + list(self.cluster_findings)

    @property
    def stopped(self) -> bool:
        """Whether the run is stopped."""
        return self.limits.stop and bool(self.findings)

    @property
    def unchecked(self) -> str | None:
        """What was not checked, in words; None if everything was."""
        reasons = [NO_DISTRIBUTIONS.format(self.earlier)] if self.columns is None else []
        reasons += [] if self.clusters.common else [NOBODY_MOVES]
        return ". ".join(reasons) or None

    @property
    def headline(self) -> str:
        """The verdict in a sentence."""
        if not self.findings:
            return "The gate found nothing"
        count = f"{len(self.findings)} findings" if len(self.findings) > 1 else "a finding"
        return f"The gate stopped the run: {count}" if self.stopped else f"The gate would stop the run: {count}"

    def facts(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return {
            "format": FORMAT,
            "earlier": self.earlier,
            "stopped": self.stopped,
            "findings": [asdict(finding) for finding in self.findings],
            "unchecked": self.unchecked,
            "columns": [
                {name: value for name, value in asdict(change).items() if name != "findings"}
                for change in self.columns or ()
            ],
            "clusters": asdict(self.clusters),
            "limits": self.limits.model_dump(mode="json"),
        }

    def lines(self) -> list[str]:
        """Return the findings as lines of text."""
        found = [f"{'drift' if finding.column else 'gate':<8}{finding.words}" for finding in self.findings]
        return found + ([f"{self.unchecked}."] if self.unchecked else [])

    def page(self) -> str:
        """Return the page that says why, in Markdown."""
        clusters = self.clusters
        lines = [f"# {self.headline}", "", f"It was compared with `{printable_text(self.earlier)}`.", ""]
        lines += [f"- {_escape(finding.words)}" for finding in self.findings]
        lines += [f"- {_escape(self.unchecked)}."] if self.unchecked else []
        lines += ["", "## Clusters", "", f"{clusters.words.count(clusters.common)} are in both runs."]
        if clusters.common:
            lines += [f"{format_percent(clusters.moved / clusters.common)} of them are in another cluster."]
        if self.columns:
            lines += ["", "## Columns that differ most", "", *self._table(self.columns)]
        return "\n".join([*lines, "", f"All figures are in `{FILE}`.", ""])

    def write(self, folder: Path, more: dict[str, Any]) -> None:
        """Write gate.json, with more facts, and the page if the run is stopped, into the folder of a run."""
        document = json.dumps(self.facts() | more, indent=1, ensure_ascii=False) + "\n"
        (folder / FILE).write_text(document, encoding="utf-8")
        if self.stopped:
            (folder / PAGE).write_text(self.page(), encoding="utf-8")

    @staticmethod
    def _table(columns: tuple[ColumnChange, ...]) -> list[str]:
        head = ["| column | PSI | Jensen-Shannon distance | missing before | missing now |", "|---|---|---|---|---|"]
        order = sorted(columns, key=lambda change: (-change.js, -abs(change.missing[1] - change.missing[0])))
        return head + [
            f"| {_cell(change.column)} | {change.psi:.3f} | {change.js:.3f} | "
            f"{format_percent(change.missing[0])} | {format_percent(change.missing[1])} |"
            for change in order[:SHOWN_COLUMNS]
        ]


def judge(
    earlier: str,
    before: TableDistributions | None,
    now: TableDistributions | None,
    clusters: ClusterFacts,
    limits: GateConfig,
    others: Sequence[TableDistributions] = (),
) -> Verdict:
    """Compare a run with an earlier one.

    Parameters
    ----------
    earlier : str
        The path of the earlier run.
    before, now : TableDistributions or None
        Of the tables of both runs.
    clusters : ClusterFacts
    limits : GateConfig
    others : sequence of TableDistributions
        Of other earlier runs: a column that is like theirs is no finding.
    """
    columns = None
    if before is not None and now is not None:
        columns = tuple(compare_columns(before, now, limits, clusters.n_checks))
        for other in others:
            like = {c.column: c for c in compare_columns(other, now, limits, clusters.n_checks) if not c.findings}
            columns = tuple(like.get(change.column, change) if change.findings else change for change in columns)
    found = compare_clusters(clusters, limits, CHECKS_PER_COLUMN * len(columns or ()))
    return Verdict(earlier, columns, clusters, tuple(found), limits)


def _cell(text: str) -> str:
    return _escape(printable_text(text)).replace("|", "\\|")


def _escape(text: str) -> str:
    """Return text that Markdown shows as it is: names of columns are data."""
    return re.sub(r"([\\`*_\[\]])", r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;")

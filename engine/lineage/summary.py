"""Summarize a comparison of two runs, in words and as plain values: what became of each persona.

runs, moves, transitions, names  ->  facts for programs; text for people: a headline and a line for each cluster
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from engine.lineage.matching import UNMATCHED, Counts
from engine.lineage.transitions import (
    MAJORITY,
    MIN_PART,
    RESIZE_RATIO,
    ClusterTransition,
    ClusterTransitions,
)
from engine.report.contents import read_cluster_names
from engine.utils.domain_words import DEFAULT_WORDS, DomainWords
from engine.utils.formatting import format_percent, natural_list

SURVIVAL = ("kept", "grown", "shrunk")
MIN_FLOW = 0.05  # smallest share of a cluster's people whose destination is mentioned
MAX_FLOWS = 3  # destinations or sources that are mentioned, at most


@dataclass(frozen=True)
class RunClusters:
    """The clusters of one run: their numbers, names, sizes, and shares of the run's people."""

    numbers: list[int]
    names: list[str]
    sizes: list[int]
    shares: list[float]

    @classmethod
    def read(cls, folder: Path) -> RunClusters:
        """Read the clusters of a run, or of one in the making."""
        clusters = pq.read_table(folder.absolute() / "clusters.parquet", columns=["cluster", "size", "share"])
        numbers, sizes, shares = (clusters[name].to_pylist() for name in ("cluster", "size", "share"))
        return cls(numbers, read_cluster_names(folder, numbers), sizes, shares)

    def display_name(self, c: int) -> str:
        """Return a cluster's name and number as text shows it."""
        return f"“{self.names[c]}” ({self.numbers[c]})"


@dataclass(frozen=True)
class ComparisonSummary:
    """The summary of a comparison: facts() for programs, text() for people."""

    old: RunClusters
    new: RunClusters
    moves: Counts
    changes: ClusterTransitions
    n_moved: int
    adjusted_rand_index: float
    words: DomainWords = DEFAULT_WORDS

    def facts(self) -> dict[str, Any]:
        """Return everything as plain JSON values; None for measures of people in both runs, if nobody is."""
        common = int(self.moves.sum())
        matched = [None if c == UNMATCHED else self.new.numbers[c] for c in self.changes.matched.tolist()]
        return {
            "common": common,
            "left": sum(self.old.sizes) - common,
            "joined": sum(self.new.sizes) - common,
            "moved": self.n_moved,
            "moved_share": self.n_moved / common if common else None,
            "adjusted_rand_index": self.adjusted_rand_index if common else None,
            "thresholds": {"most": MAJORITY, "part": MIN_PART, "resized": RESIZE_RATIO},
            "old_clusters": [
                {**_facts(transition, self.old, self.new), "matched": cluster, "words": self.describe_old(transition)}
                for transition, cluster in zip(self.changes.old, matched, strict=True)
            ],
            "new_clusters": [
                {**_facts(transition, self.new, self.old), "words": self.describe_new(transition)}
                for transition in self.changes.new
            ],
            "moves": self.moves.tolist(),
        }

    def text(self) -> str:
        """Return the summary as text: old clusters that survive first, then the other old ones, then new ones."""
        facts = self.facts()
        old = sorted(self.changes.old, key=lambda transition: transition.verdict not in SURVIVAL)
        new = [transition for transition in self.changes.new if transition.verdict not in SURVIVAL]
        return "\n".join(
            [
                f"{self.words.count(facts['common'])} in both runs, {facts['left']:,} left, {facts['joined']:,} joined",
                f"{self.words.count(self.n_moved)} moved ({format_percent(facts['moved_share'])}), "
                f"adjusted Rand index {self.adjusted_rand_index:.3f}",
                *(f"{transition.verdict:<8}{self.describe_old(transition)}" for transition in old),
                *(
                    f"{'born' if transition.verdict == 'born' else 'new':<8}{self.describe_new(transition)}"
                    for transition in new
                ),
            ]
        )

    def describe_old(self, transition: ClusterTransition) -> str:
        """Describe what became of an old cluster, and where its people went."""
        c, destinations = transition.cluster, self.moves[transition.cluster]
        name, size = self.old.display_name(c), self.old.sizes[c]
        if not destinations.any():
            return f"{name}: " + (
                f"all of its {self.words.count(size)} left" if size else f"{self.words.nobody} was in it"
            )
        if transition.verdict == "split":
            parts = [
                f"{self.new.display_name(p)}, {format_percent(destinations[p] / destinations.sum())}"
                for p in transition.others
            ]
            return f"{name} was split into {natural_list(parts)}"
        elsewhere = self._elsewhere(destinations, transition.others)
        if transition.verdict == "died":
            return (
                f"{name} no longer exists{elsewhere or f': its {self.words.plural} are spread over the other clusters'}"
            )
        (successor,) = transition.others
        share_kept = format_percent(destinations[successor] / destinations.sum())
        if transition.verdict == "merged":
            kept = f"with {share_kept} of its {self.words.plural}"
            return f"{name} went into {self.new.display_name(successor)}, {kept}{elsewhere}"
        now = (
            self.new.display_name(successor)
            if self.new.names[successor] != self.old.names[c]
            else str(self.new.numbers[successor])
        )
        new_size = self.words.count(self.new.sizes[successor])
        return f"{name} is now {now}: {size:,} → {new_size}, {share_kept} stayed{elsewhere}"

    def describe_new(self, transition: ClusterTransition) -> str:
        """Describe where a new cluster comes from."""
        c, origins = transition.cluster, self.moves[:, transition.cluster]
        name, size = f"{self.new.display_name(transition.cluster)}", self.new.sizes[c]
        if not origins.any():
            return f"{name}: " + (
                f"all of its {self.words.count(size)} joined" if size else f"{self.words.nobody} is in it"
            )
        if transition.verdict in SURVIVAL:
            return f"{name} was {self.old.display_name(transition.others[0])}"
        sources = transition.others or tuple(
            p for p in np.argsort(-origins, kind="stable").tolist()[:MAX_FLOWS] if origins[p]
        )
        source_words = natural_list(
            [f"{self.old.display_name(p)}, {format_percent(origins[p] / origins.sum())} of it" for p in sources]
        )
        verb = {"merged": "merged from", "split": "split off", "born": "came together from"}[transition.verdict]
        return f"{name}, {self.words.count(size)}: {verb} {source_words}"

    def _elsewhere(self, destinations: Counts, mentioned: tuple[int, ...]) -> str:
        """Return the clause on the other clusters that people went to."""
        shares = destinations / destinations.sum()
        largest = [p for p in np.argsort(-shares, kind="stable").tolist() if shares[p] >= MIN_FLOW]
        flows = [
            f"{format_percent(shares[p])} went to {self.new.display_name(p)}" for p in largest if p not in mentioned
        ][:MAX_FLOWS]
        return f"; {natural_list(flows)}" if flows else ""


def _facts(transition: ClusterTransition, clusters: RunClusters, others: RunClusters) -> dict[str, Any]:
    c, number = transition.cluster, clusters.numbers[transition.cluster]
    facts = {"cluster": number, "name": clusters.names[c], "users": clusters.sizes[c], "share": clusters.shares[c]}
    return {**facts, "verdict": transition.verdict, "others": [others.numbers[p] for p in transition.others]}

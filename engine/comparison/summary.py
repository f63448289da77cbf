"""A comparison of two runs in words and as plain values: what became of each persona.

Told (runs, moves, verdicts, names)  ->  facts for programs; a headline and a line a cluster for people
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from engine.comparison.transitions import MOST, NONE, PART, RESIZED, Change, Changes, Counts
from engine.report.contents import cluster_names
from engine.run import Run
from engine.utils.formatting import listed, people, percent

LIVES_ON = ("kept", "grown", "shrunk")
WORTH_TELLING = 0.05  # share of a cluster's people from which a place they went to is told
PLACES = 3  # at most


@dataclass(frozen=True)
class Side:
    """The clusters of one of both runs: what they are called, and how many people they have."""

    names: list[str]
    sizes: list[int]
    shares: list[float]

    @classmethod
    def of(cls, run: Run) -> Side:
        """Read them."""
        clusters = run.clusters
        sizes, shares = clusters["size"].to_pylist(), clusters["share"].to_pylist()
        return cls(cluster_names(run.path, len(sizes)), sizes, shares)

    def called(self, c: int) -> str:
        """Return a cluster as text shows it."""
        return f"“{self.names[c]}” ({c})"


@dataclass(frozen=True)
class Told:
    """What there is to tell of a comparison."""

    old_run: Run
    new_run: Run
    moves: Counts
    changes: Changes
    n_moved: int
    adjusted_rand_index: float

    @cached_property
    def old(self) -> Side:
        """The clusters there were."""
        return Side.of(self.old_run)

    @cached_property
    def new(self) -> Side:
        """The clusters there are."""
        return Side.of(self.new_run)

    def facts(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        common = int(self.moves.sum())
        matched = [None if there == NONE else there for there in self.changes.matched.tolist()]
        return {
            "old": str(self.old_run.path),
            "new": str(self.new_run.path),
            "common": common,
            "left": sum(self.old.sizes) - common,
            "joined": sum(self.new.sizes) - common,
            "moved": self.n_moved,
            "moved_share": self.n_moved / common,
            "adjusted_rand_index": self.adjusted_rand_index,
            "thresholds": {"most": MOST, "part": PART, "resized": RESIZED},
            "old_clusters": [
                {**_facts(change, self.old), "matched": there, "words": self.what_became_of(change)}
                for change, there in zip(self.changes.old, matched, strict=True)
            ],
            "new_clusters": [
                {**_facts(change, self.new), "words": self.where_from(change)} for change in self.changes.new
            ],
            "moves": self.moves.tolist(),
        }

    def text(self) -> str:
        """Return the same for people: old clusters that live on first, then the others, then what is new."""
        found = self.facts()
        old = sorted(self.changes.old, key=lambda change: change.verdict not in LIVES_ON)
        new = [change for change in self.changes.new if change.verdict not in LIVES_ON]
        return "\n".join(
            [
                f"{people(found['common'])} in both runs, {found['left']:,} left, {found['joined']:,} joined",
                f"{people(self.n_moved)} moved ({percent(found['moved_share'])}), "
                f"adjusted Rand index {self.adjusted_rand_index:.3f}",
                *(f"{change.verdict:<8}{self.what_became_of(change)}" for change in old),
                *(f"{'born' if change.verdict == 'born' else 'new':<8}{self.where_from(change)}" for change in new),
            ]
        )

    def what_became_of(self, change: Change) -> str:
        """Say what became of an old cluster, and where its people are."""
        c, went = change.cluster, self.moves[change.cluster]
        name, size = self.old.called(c), self.old.sizes[c]
        if not went.any():
            return f"{name}: " + (f"all of its {people(size)} left" if size else "nobody was in it")
        if change.verdict == "split":
            parts = [f"{self.new.called(p)}, {percent(went[p] / went.sum())}" for p in change.others]
            return f"{name} was split into {listed(parts)}"
        elsewhere = self._elsewhere(went, change.others)
        if change.verdict == "died":
            return f"{name} is no more{elsewhere or ': its people are all over the place'}"
        (there,) = change.others
        stayed = percent(went[there] / went.sum())
        if change.verdict == "merged":
            return f"{name} went into {self.new.called(there)}, with {stayed} of its people{elsewhere}"
        now = self.new.called(there) if self.new.names[there] != self.old.names[c] else str(there)
        return f"{name} is now {now}: {size:,} → {people(self.new.sizes[there])}, {stayed} stayed{elsewhere}"

    def where_from(self, change: Change) -> str:
        """Say where a new cluster comes from."""
        c, came = change.cluster, self.moves[:, change.cluster]
        name, size = f"{self.new.called(change.cluster)}", self.new.sizes[c]
        if not came.any():
            return f"{name}: " + (f"all of its {people(size)} joined" if size else "nobody is in it")
        if change.verdict in LIVES_ON:
            return f"{name} was {self.old.called(change.others[0])}"
        most = change.others or tuple(p for p in np.argsort(-came, kind="stable").tolist()[:PLACES] if came[p])
        sources = listed([f"{self.old.called(p)}, {percent(came[p] / came.sum())} of it" for p in most])
        verb = {"merged": "merged from", "split": "split off", "born": "came together from"}[change.verdict]
        return f"{name}, {people(size)}: {verb} {sources}"

    def _elsewhere(self, went: Counts, known: tuple[int, ...]) -> str:
        """Return where else people went."""
        shares = went / went.sum()
        most = [p for p in np.argsort(-shares, kind="stable").tolist() if shares[p] >= WORTH_TELLING]
        told = [f"{percent(shares[p])} went to {self.new.called(p)}" for p in most if p not in known][:PLACES]
        return f"; {listed(told)}" if told else ""


def _facts(change: Change, side: Side) -> dict[str, Any]:
    c = change.cluster
    whose = {"cluster": c, "name": side.names[c], "users": side.sizes[c], "share": side.shares[c]}
    return {**whose, "verdict": change.verdict, "others": list(change.others)}

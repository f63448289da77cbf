"""Compare the clusters of two runs: rows, sizes, people who moved, outliers, and clusters that no longer exist.

ClusterFacts of an earlier run and of tonight's, limits  ->  findings
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from engine.config import GateConfig
from engine.gate.divergence import compare_share
from engine.gate.findings import CHANCE, Finding
from engine.utils.domain_words import DEFAULT_WORDS, DomainWords
from engine.utils.formatting import format_percent, natural_list

NOBODY_IN_BOTH = "No id is in both runs."
ALL = 10**12  # people of a night whose share of movers is known: a limit is no sample
LEAST_CHANGE = 0.01  # of a share of everybody: a smaller change is no finding, however large its ratio


@dataclass(frozen=True)
class ClusterFacts:
    """What the gate compares of the clusters of two runs.

    Attributes
    ----------
    sizes_before, sizes_now : dict of number to size
        Of each run, by the number of the cluster. Where the runs number their clusters apart, the new ones have the
        numbers of those that are matched to them.
    rows_before, rows_now : int
        People of each run.
    common, moved : int
        People in both runs, and those of them whose cluster is another one.
    outliers_before, outliers_now : int
    died : tuple of int
        Numbers of clusters that no longer exist.
    words : DomainWords
        What the rows are called.
    """

    sizes_before: dict[int, int]
    sizes_now: dict[int, int]
    rows_before: int
    rows_now: int
    common: int
    moved: int
    outliers_before: int
    outliers_now: int
    died: tuple[int, ...]
    words: DomainWords = DEFAULT_WORDS

    @property
    def n_checks(self) -> int:
        """The number of checks that sampling may fail."""
        return 2 * len(self.sizes_now) + 2


def compare_clusters(facts: ClusterFacts, limits: GateConfig, n_other_checks: int = 0) -> list[Finding]:
    """Return what is beyond its limit: more than chance, where chance can be said.

    Parameters
    ----------
    facts : ClusterFacts
    limits : GateConfig
    n_other_checks : int
        Checks of other things among which the probability of a false finding is shared, too.
    """
    chance = CHANCE / (facts.n_checks + n_other_checks)
    return [
        *_rows(facts, limits), *_sizes(facts, limits, chance), *_outliers(facts, limits, chance),
        *_moves(facts, limits, chance),
    ]  # fmt: skip


def _rows(facts: ClusterFacts, limits: GateConfig) -> Iterator[Finding]:
    n_before, n_now = facts.rows_before, facts.rows_now
    ratio = max(n_before, n_now) / max(min(n_before, n_now), 1)
    if limits.rows is not None and ratio > limits.rows:
        words = f"There are {facts.words.count(n_now)}, before {facts.words.count(n_before)}."
        yield Finding("rows", ratio, limits.rows, words)


def _sizes(facts: ClusterFacts, limits: GateConfig, chance: float) -> Iterator[Finding]:
    n_before, n_now = facts.rows_before, facts.rows_now
    for number in sorted(facts.sizes_before.keys() & facts.sizes_now.keys()):
        before, now = facts.sizes_before[number] / n_before, facts.sizes_now[number] / n_now
        if compare_share(before, now, n_before, n_now).chance >= chance:
            continue
        verb = "grew" if now > before else "shrank"
        change = f"from {format_percent(before)} to {format_percent(now)} of {facts.words.everybody}"
        words = f"Cluster {number} {verb} {change}."
        ratio = max(before, now) / max(min(before, now), 1 / n_now)
        if limits.size is not None and abs(now - before) > limits.size:
            yield Finding("size", now - before, limits.size, words, cluster=number)
        elif limits.size_ratio is not None and ratio > limits.size_ratio and abs(now - before) > LEAST_CHANGE:
            yield Finding("size_ratio", ratio, limits.size_ratio, words, cluster=number)


def _outliers(facts: ClusterFacts, limits: GateConfig, chance: float) -> Iterator[Finding]:
    n_before, n_now = facts.rows_before, facts.rows_now
    before, now = facts.outliers_before / n_before, facts.outliers_now / n_now
    if limits.outliers is None or abs(now - before) <= limits.outliers:
        return
    if compare_share(before, now, n_before, n_now).chance < chance:
        words = f"{format_percent(now)} of {facts.words.everybody} are outliers, before {format_percent(before)}."
        yield Finding("outliers", now - before, limits.outliers, words)


def _moves(facts: ClusterFacts, limits: GateConfig, chance: float) -> Iterator[Finding]:
    in_both = facts.common / max(min(facts.rows_before, facts.rows_now), 1)
    if limits.common is not None and in_both < limits.common:
        words = f"{facts.words.count(facts.common)} are in both runs, {format_percent(in_both)} of the smaller one."
        yield Finding("common", in_both, limits.common, words if facts.common else NOBODY_IN_BOTH)
    share = facts.moved / max(facts.common, 1)
    by_chance = limits.moved is None or compare_share(limits.moved, share, ALL, facts.common).chance >= chance
    if limits.moved is not None and share > limits.moved and not by_chance:
        words = f"{format_percent(share)} of the {facts.words.plural} in both runs are in another cluster."
        yield Finding("moved", share, limits.moved, words)
    if limits.deaths is not None and len(facts.died) > limits.deaths:
        named = natural_list([str(number) for number in facts.died])
        words = f"Cluster {named} no longer exists." if len(facts.died) == 1 else f"Clusters {named} no longer exist."
        yield Finding("deaths", len(facts.died), limits.deaths, words)

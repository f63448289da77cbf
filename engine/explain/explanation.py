"""Explain a clustering: three views by trees and rules, learnt on a sample, measured on rows not seen and on all.

    sample -> answers -> overview tree, full tree, one tree a cluster -> rules -> one pass over the table -> Explanation

Trees are grown on three fifths of the sample, pruned on a fifth, and measured on the last fifth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.config import ExplainConfig
from engine.execution.local import map_blocks
from engine.explain.questions import Answers, Questions, questions_of
from engine.explain.rules import Condition, FoundRules, find_rules, matched_by
from engine.explain.sample import Sample
from engine.explain.scoring import Counts, Scorer, Scores, score_table
from engine.explain.tree import LEAF, Labels, Ranges, Tree, Weights, grow, pruned, telling_questions
from engine.explain.words import Vocabulary
from engine.features.plan import Plan
from engine.sampling import row_keys
from engine.tables import Table

OVERVIEW_DEPTH = 3  # eight leaves: what fits on a page, as in the study that the engine goes back to
QUESTIONS_PER_CLUSTER = 24  # a one-against-all tree chooses among so many; all 125 of the demo give the same precision
DEPTH_PER_CLUSTER, LEAVES_PER_CLUSTER = 8, 64
OTHERS_PER_MEMBER, LEAST_OTHERS = 3, 3000  # rows a one-against-all tree is grown on; rules are judged on all
FIFTHS_GROWN, FIFTHS_PRUNED = 3, 4


Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Rule:
    """One rule of a cluster, counted on all rows."""

    ranges: Ranges
    conditions: tuple[Condition, ...]
    n_matched: int
    n_right: int
    size: int

    @property
    def precision(self) -> float:
        """Share of the people it matches who are in the cluster."""
        return self.n_right / self.n_matched if self.n_matched else 0.0

    @property
    def coverage(self) -> float:
        """Share of the cluster it matches."""
        return self.n_right / self.size if self.size else 0.0


@dataclass(frozen=True)
class ClusterRules:
    """All rules of one cluster, and how good they are together."""

    rules: tuple[Rule, ...]
    precision: float
    coverage: float
    n_matched: int
    precise: bool  # whether rules as precise as wanted were found
    unseen: tuple[float, float]  # precision and coverage on sampled rows that were not seen


@dataclass(frozen=True)
class View:
    """A tree over all clusters: people of each cluster in each node's leaf, and how often it names the right one."""

    tree: Tree
    counts: Counts
    fidelity_unseen: float
    fidelity: float


@dataclass(frozen=True)
class Explanation:
    """Rules and trees of a clustering."""

    questions: Questions
    overview: View
    full: View
    clusters: tuple[ClusterRules, ...]
    n_sampled: int
    n_unseen: int

    def conditions(self, ranges: Ranges) -> tuple[Condition, ...]:
        """Return what ranges of answers mean."""
        return _conditions(self.questions, ranges)


def explain(
    table: Table,
    labels: Labels,
    sample: Sample,
    plan: Plan,
    words: Vocabulary,
    settings: ExplainConfig,
    seed: int,
) -> Explanation:
    """Explain a clustering.

    Parameters
    ----------
    table : Table
        Read once, for the columns that rules ask about.
    labels : int32 array of shape (n_rows,)
    sample : Sample
    plan : Plan
        How columns became features: what a category is, what missing values count as.
    words : Vocabulary
    settings : ExplainConfig
    seed : int
        Key of the division of the sample.
    """
    questions, answers = questions_of(plan, sample.table, words)
    fifth = row_keys(seed + 1, sample.rows) % np.uint64(5)
    grown, seen = fifth < FIFTHS_GROWN, fifth < FIFTHS_PRUNED
    if not grown.any() or len(np.unique(sample.labels)) < 2 or len(questions) == 0:
        grown = seen = np.ones(len(sample.rows), bool)
    overview, full = _trees(answers, sample, grown, seen)
    found = _rules(answers, sample, questions, full, grown, seen, settings)
    everybody = score_table(table, labels, Scorer(questions, [overview, full], [cluster.rules for cluster in found]))
    while (everybody.rules[:, 1] < settings.min_people).any():  # the sample thought a rule matched more people
        found = _without(found, everybody.rules[:, 1] < settings.min_people)
        everybody = score_table(table, labels, Scorer(questions, [overview, full], [c.rules for c in found]))
    unseen = _part(answers, sample, ~seen if not seen.all() else seen)
    return Explanation(
        questions,
        _view(0, overview, everybody, unseen),
        _view(1, full, everybody, unseen),
        tuple(_cluster_rules(questions, found, everybody, unseen, sample.sizes)),
        n_sampled=len(sample.rows),
        n_unseen=int((~seen).sum()),
    )


def _part(answers: Answers, sample: Sample, rows: Mask) -> tuple[Answers, Labels, Weights]:
    return np.ascontiguousarray(answers[:, rows]), sample.labels[rows], sample.weights[rows]


def _trees(answers: Answers, sample: Sample, grown: Mask, seen: Mask) -> tuple[Tree, Tree]:
    overview = grow(*_part(answers, sample, seen), max_depth=OVERVIEW_DEPTH)
    full = grow(*_part(answers, sample, grown))
    return overview, pruned(full, *_part(answers, sample, seen & ~grown))


def _rules(
    answers: Answers, sample: Sample, questions: Questions, full: Tree, grown: Mask, seen: Mask, settings: ExplainConfig
) -> list[FoundRules]:
    growing, judging = _part(answers, sample, grown), _part(answers, sample, seen)
    telling = telling_questions(*growing, sample.n_clusters, QUESTIONS_PER_CLUSTER)
    joint = full.question[full.question != LEAF]  # what tells clusters apart together, but perhaps not alone
    joint = np.array([q for q, _ in Counter(joint.tolist()).most_common(QUESTIONS_PER_CLUSTER)], np.int64)

    def of(cluster: int) -> FoundRules:
        asked = np.unique(np.concatenate([telling[cluster], joint]))
        member = growing[1] == cluster
        if len(asked) == 0 or not member.any() or member.all():
            return FoundRules((), precise=False)
        rows, step = _some_others(member)
        tree = grow(
            growing[0][np.ix_(asked, rows)], member[rows].astype(np.int32),
            growing[2][rows] * np.where(member[rows], 1.0, step),
            max_depth=DEPTH_PER_CLUSTER, max_leaves=LEAVES_PER_CLUSTER,
        )  # fmt: skip
        return find_rules(
            tree, judging[0], judging[1] == cluster, judging[2], [questions.asked[q].n_answers for q in asked],
            settings, questions=asked,
        )  # fmt: skip

    return list(map_blocks(of, range(sample.n_clusters)))


def _some_others(member: Mask) -> tuple[NDArray[np.int64], float]:
    """Return the members' rows and every step-th of the others, in order, and step: enough to grow a tree on."""
    others = np.flatnonzero(~member)
    step = max(1, len(others) // max(OTHERS_PER_MEMBER * int(member.sum()), LEAST_OTHERS))
    return np.sort(np.concatenate([np.flatnonzero(member), others[::step]])), float(step)


def _without(found: list[FoundRules], few: Mask) -> list[FoundRules]:
    drop = iter(few.tolist())
    kept = [(tuple(rule for rule in cluster.rules if not next(drop)), cluster.precise) for cluster in found]
    return [FoundRules(rules, precise and bool(rules)) for rules, precise in kept]


def _view(number: int, tree: Tree, everybody: Scores, unseen: tuple[Answers, Labels, Weights]) -> View:
    answers, labels, weights = unseen
    right = float(weights[tree.predict(answers) == labels].sum() / weights.sum())
    return View(tree, everybody.nodes[number], right, everybody.fidelity(number, tree))


def _cluster_rules(
    questions: Questions,
    found: list[FoundRules],
    everybody: Scores,
    unseen: tuple[Answers, Labels, Weights],
    sizes: Counts,
) -> Iterator[ClusterRules]:
    numbers = iter(everybody.rules.tolist())
    for cluster, rules in enumerate(found):
        size = int(sizes[cluster])
        counted = []
        for ranges in rules.rules:
            n_matched, n_right = next(numbers)
            counted.append(Rule(ranges, _conditions(questions, ranges), n_matched, n_right, size))
        n_matched, n_right = everybody.clusters[cluster].tolist()
        yield ClusterRules(
            tuple(counted),
            n_right / n_matched if n_matched else 0.0,
            n_right / size if size else 0.0,
            n_matched,
            rules.precise,
            _on_unseen(rules, cluster, unseen),
        )


def _on_unseen(rules: FoundRules, cluster: int, unseen: tuple[Answers, Labels, Weights]) -> tuple[float, float]:
    """Return precision and coverage of a cluster's rules together; NaN where nobody is matched, or nobody is in it."""
    answers, labels, weights = unseen
    any_rule = np.zeros(len(labels), bool)
    for ranges in rules.rules:
        any_rule |= matched_by(ranges, answers)
    people, members = weights[any_rule].sum(), weights[labels == cluster].sum()
    inside = weights[any_rule & (labels == cluster)].sum()
    return float(inside / people) if people else float("nan"), float(inside / members) if members else float("nan")


def _conditions(questions: Questions, ranges: Ranges) -> tuple[Condition, ...]:
    return tuple(Condition(questions.asked[q], low, high) for q, (low, high) in ranges.items())

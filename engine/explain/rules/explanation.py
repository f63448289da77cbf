"""Explain a clustering: three views by trees and rules, learnt on a sample, measured on rows not seen and on all.

    sample -> answers -> overview, short, full tree, one a cluster -> rules -> one pass over all codes -> Explanation

Trees are grown on three fifths of the sample, pruned on a fifth, and measured on the last fifth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.config import ExplainConfig
from engine.execution.threads import map_blocks
from engine.explain.binning.binner import Answers, Codebook, Codes
from engine.explain.binning.predicates import YES, Question
from engine.explain.row_sample import Sample
from engine.explain.rules.conditions import Condition
from engine.explain.rules.decision_tree import LEAF, Labels, Ranges, Tree, Weights, grow, pruned, telling_questions
from engine.explain.rules.imm_tree import Part, few_leaves
from engine.explain.rules.rule_metrics import Counts, Scorer, Scores, score_all
from engine.explain.rules.rules import FoundRules, any_of, find_rules
from engine.utils.row_sampling import row_keys

OVERVIEW_DEPTH = 3  # eight leaves: what fits on a page, as in the study that the engine goes back to
QUESTIONS_PER_CLUSTER = 24  # a one-against-all tree chooses among so many; all 125 of the demo give the same precision
DEPTH_PER_CLUSTER, LEAVES_PER_CLUSTER = 8, 64
OTHERS_PER_MEMBER, LEAST_OTHERS = 3, 3000  # rows a one-against-all tree is grown on; rules are judged on all
COVERED = 0.9  # share of a cluster from which no further rules are looked for
FEW_ROWS = 6000  # that a tree of few leaves is grown on; on the demo twelve leaves name 95.6 % with 6,000 or 12,000
FIFTHS_GROWN, FIFTHS_PRUNED = 3, 4


Mask = NDArray[np.bool_]
Asked = tuple[Question, ...]


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

    questions: Asked
    overview: View
    short: View  # a leaf a cluster
    full: View
    clusters: tuple[ClusterRules, ...]
    n_sampled: int
    n_unseen: int

    def conditions(self, ranges: Ranges) -> tuple[Condition, ...]:
        """Return what ranges of answers mean."""
        return _conditions(self.questions, ranges)


def explain(
    codes: Codes,
    book: Codebook,
    labels: Labels,
    sample: Sample,
    settings: ExplainConfig,
    seed: int,
) -> Explanation:
    """Explain a clustering.

    Parameters
    ----------
    codes : uint8 array of shape (n_lines, n_rows)
        Of all rows: what rules ask about.
    book : Codebook
    labels : int32 array of shape (n_rows,)
    sample : Sample
    settings : ExplainConfig
    seed : int
        Key of the division of the sample.
    """
    questions, answers = book.questions, book.answers(np.ascontiguousarray(codes[:, sample.rows]))
    fifth = row_keys(seed + 1, sample.rows) % np.uint64(5)
    grown, seen = fifth < FIFTHS_GROWN, fifth < FIFTHS_PRUNED
    if not grown.any() or len(np.unique(sample.labels)) < 2 or len(questions) == 0:
        grown = seen = np.ones(len(sample.rows), bool)
    trees = _trees(answers, sample, grown, seen)
    found = _rules(answers, sample, questions, trees[-1], grown, seen, settings)
    everybody = score_all(codes, labels, Scorer(book, trees, [cluster.rules for cluster in found]))
    while (everybody.rules[:, 1] < settings.min_people).any():  # the sample thought a rule matched more people
        found = _without(found, everybody.rules[:, 1] < settings.min_people)
        everybody = score_all(codes, labels, Scorer(book, trees, [c.rules for c in found]))
    unseen = _part(answers, sample, ~seen if not seen.all() else seen)
    overview, short, full = (_view(number, tree, everybody, unseen) for number, tree in enumerate(trees))
    return Explanation(
        questions,
        overview,
        short,
        full,
        tuple(_cluster_rules(questions, found, everybody, unseen, sample.sizes)),
        n_sampled=len(sample.rows),
        n_unseen=int((~seen).sum()),
    )


def _part(answers: Answers, sample: Sample, rows: Mask) -> Part:
    return np.ascontiguousarray(answers[:, rows]), sample.labels[rows], sample.weights[rows]


def _trees(answers: Answers, sample: Sample, grown: Mask, seen: Mask) -> tuple[Tree, Tree, Tree]:
    """Grow the overview, the short tree and the full one."""
    growing, judging = _part(answers, sample, grown), _part(answers, sample, seen & ~grown)
    few = _thinned(growing), _thinned(judging)
    k, most = sample.n_clusters, 2**OVERVIEW_DEPTH
    overview = few_leaves(*few, k, max_leaves=most, max_depth=OVERVIEW_DEPTH)
    return overview, few_leaves(*few, k, max_leaves=max(k, 2)), pruned(grow(*growing), *judging)


def _thinned(part: Part) -> Part:
    """Return every so manieth row of a part, at most FEW_ROWS: a tree of few leaves is no better for more."""
    answers, labels, weights = part
    step = -(-len(labels) // FEW_ROWS) or 1
    return np.ascontiguousarray(answers[:, ::step]), labels[::step], weights[::step]


def _rules(
    answers: Answers,
    sample: Sample,
    questions: Asked,
    full: Tree,
    grown: Mask,
    seen: Mask,
    settings: ExplainConfig,
) -> list[FoundRules]:
    growing, judging = _part(answers, sample, grown), _part(answers, sample, seen)
    telling = telling_questions(*growing, sample.n_clusters, QUESTIONS_PER_CLUSTER)
    joint = full.question[full.question != LEAF]  # what tells clusters apart together, but perhaps not alone
    joint = np.array([q for q, _ in Counter(joint.tolist()).most_common(QUESTIONS_PER_CLUSTER)], np.int64)

    opposite = opposites(questions, answers)

    def positive(found: FoundRules) -> FoundRules:
        """Say "gender is F" where that is what "gender is not M" means."""
        said = [
            {opposite[q] if bounds == (0, 0) and q in opposite else q:
             (YES, YES) if bounds == (0, 0) and q in opposite else bounds for q, bounds in rule.items()}
            for rule in found.rules
        ]  # fmt: skip
        return FoundRules(tuple(said), found.precise)

    def of(cluster: int) -> FoundRules:
        asked = np.unique(np.concatenate([telling[cluster], joint]))
        member, judged = growing[1] == cluster, judging[1] == cluster
        found = FoundRules((), precise=False)
        if len(asked) == 0 or not member.any() or member.all():
            return found
        n_answers = [questions[q].n_answers for q in asked]
        while True:  # each tree is grown on whom no rule matches yet
            tree = _against_all(growing, asked, member, ~any_of(found.rules, growing[0]))
            n_before = len(found.rules)
            found = find_rules(
                tree, judging[0], judged, judging[2], n_answers, settings, questions=asked, taken=found.rules
            )
            matched = any_of(found.rules, judging[0])
            enough = judging[2][matched & judged].sum() >= COVERED * judging[2][judged].sum()
            if not found.precise or enough or len(found.rules) in (n_before, settings.max_rules):
                return found

    return [positive(found) for found in map_blocks(of, range(sample.n_clusters))]


def opposites(questions: Asked, answers: Answers) -> dict[int, int]:
    """Return, for each of two categories that share all sampled people, the other one."""
    places: dict[str, list[int]] = {}
    for place, question in enumerate(questions):
        if question.kind == "category":
            places.setdefault(question.column, []).append(place)
    pairs = [both for both in places.values() if len(both) == 2 and (answers[both[0]] + answers[both[1]] == 1).all()]
    return {a: b for pair in pairs for a, b in (pair, pair[::-1])}


def _against_all(growing: Part, asked: NDArray[np.int64], member: Mask, left: Mask) -> Tree:
    """Grow a tree of a cluster against all others, on some rows."""
    answers, _, weights = growing
    rows, step = _some_others(member & left, ~member & left)
    return grow(
        answers[np.ix_(asked, rows)], member[rows].astype(np.int32), weights[rows] * np.where(member[rows], 1.0, step),
        max_depth=DEPTH_PER_CLUSTER, max_leaves=LEAVES_PER_CLUSTER,
    )  # fmt: skip


def _some_others(member: Mask, other: Mask) -> tuple[NDArray[np.int64], float]:
    """Return the members' rows and every step-th of the others, in order, and step: enough to grow a tree on."""
    others = np.flatnonzero(other)
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
    questions: Asked,
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
    any_rule = any_of(rules.rules, answers)
    people, members = weights[any_rule].sum(), weights[labels == cluster].sum()
    inside = weights[any_rule & (labels == cluster)].sum()
    return float(inside / people) if people else float("nan"), float(inside / members) if members else float("nan")


def _conditions(questions: Asked, ranges: Ranges) -> tuple[Condition, ...]:
    return tuple(Condition(questions[q], low, high) for q, (low, high) in ranges.items())

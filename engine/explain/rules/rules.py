"""Rules: who is in a cluster, as few conditions on columns people know.

    one-against-all tree  ->  its shallowest nodes that are precise enough, every bound left out that is not needed

A rule is a conjunction of conditions, a cluster has a few rules of which any may hold. Precision is the share of the
people a rule matches who are in the cluster; coverage is the share of the cluster it matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.config import ExplainConfig
from engine.explain.binning.binner import Answers
from engine.explain.rules.decision_tree import Ranges, Tree, Weights

DOUBT = 1.0  # sampled rows outside the cluster that every rule is thought to match besides: few rows prove little
CONDITIONS = 5  # of a further rule, at most: longer ones are not read
LEAST_GAIN = 0.05  # share of the cluster that a further rule must add


@dataclass(frozen=True)
class FoundRules:
    """Ranges of a cluster's rules in the order of people added, and whether each is as precise as wanted."""

    rules: tuple[Ranges, ...]
    precise: bool


def find_rules(
    tree: Tree,
    answers: Answers,
    member: NDArray[np.bool_],
    weights: Weights,
    n_answers: list[int],
    settings: ExplainConfig,
    *,
    questions: NDArray[np.int64],
    taken: tuple[Ranges, ...] = (),
) -> FoundRules:
    """Choose a cluster's rules among the nodes of its tree, beside those that are taken already.

    Parameters
    ----------
    tree : Tree
        Over `questions`; its nodes are candidates.
    answers : uint8 array of shape (n_all_questions, n_rows)
    member : bool array of shape (n_rows,)
    weights : float64 array of shape (n_rows,)
    n_answers : list of int
        Of the questions the tree asks.
    settings : ExplainConfig
        How precise a rule must be, how many people it must match, and how many rules there may be.
    questions : int array
        The tree's question q is questions[q] of `answers`.
    taken : tuple of Ranges
        Rules of the cluster; whom they match need not be matched again, and cannot excuse whom others match wrongly.
    """
    judge = _Judge(answers, member, weights, {int(q): n for q, n in zip(questions, n_answers, strict=True)}, taken)
    paths = [{int(questions[q]): bounds for q, bounds in path.items()} for path in tree.paths(n_answers)]
    paths = [path for path in paths if path and judge.people(judge.matched(path)) >= settings.min_people]
    precise = [path for path in paths if judge.precision(judge.matched(path)) >= settings.min_precision]
    if not precise and taken:
        return FoundRules(taken, precise=True)
    if not precise:
        best = max(paths, key=lambda path: judge.score(judge.matched(path)), default={})
        floor = judge.precision(judge.matched(best)) if best else 0.0
        return FoundRules((judge.simplified(best, floor),) if best else (), precise=False)
    widest = sorted(precise, key=len)
    shallow = [path for n, path in enumerate(widest) if not any(_inside(path, above) for above in widest[:n])]
    simple = [judge.simplified(path, settings.min_precision) for path in shallow]
    if taken:
        simple = [rule for rule in simple if len(rule) <= CONDITIONS]
    more = judge.chosen(simple, settings.max_rules - len(taken), settings.min_precision)
    return FoundRules((*taken, *more), precise=True)


def matched_by(ranges: Ranges, answers: Answers) -> NDArray[np.bool_]:
    """Tell which rows a rule matches."""
    found = np.ones(answers.shape[1], bool)
    for question, (low, high) in ranges.items():
        found &= (answers[question] >= low) & (answers[question] <= high)
    return found


def any_of(rules: Sequence[Ranges], answers: Answers) -> NDArray[np.bool_]:
    """Tell which rows some rule matches."""
    found = np.zeros(answers.shape[1], bool)
    for ranges in rules:
        found |= matched_by(ranges, answers)
    return found


class _Judge:
    """Weigh rules on rows: what they match, how precisely, and which of their bounds do nothing."""

    def __init__(
        self,
        answers: Answers,
        member: NDArray[np.bool_],
        weights: Weights,
        n_answers: dict[int, int],
        taken: tuple[Ranges, ...],
    ) -> None:
        self.answers, self.member, self.weights, self.n_answers = answers, member, weights, n_answers
        self.united, self.n_taken = any_of(taken, answers), len(taken)
        self.total = float(weights[member].sum())
        self.doubt = DOUBT * float(weights[member].mean()) if member.any() else DOUBT

    def matched(self, ranges: Ranges) -> NDArray[np.bool_]:
        return matched_by(ranges, self.answers)

    def people(self, matched: NDArray[np.bool_]) -> float:
        """Return the people of the cluster whom a rule matches and no taken one does."""
        return float(self.weights[matched & self.member & ~self.united].sum())

    def precision(self, matched: NDArray[np.bool_]) -> float:
        """Return the precision among all, or among whom no taken rule matches if that is lower."""
        everybody = self._precision(matched)
        return min(everybody, self._precision(matched & ~self.united)) if self.n_taken else everybody

    def _precision(self, matched: NDArray[np.bool_]) -> float:
        people = float(self.weights[matched].sum())
        return float(self.weights[matched & self.member].sum()) / (people + self.doubt) if people else 0.0

    def score(self, matched: NDArray[np.bool_]) -> float:
        """Return F at beta 1/2: precision counts more than coverage."""
        precision = self.precision(matched)
        coverage = self.people(matched) / self.total
        return 1.25 * precision * coverage / (0.25 * precision + coverage) if precision > 0 else 0.0

    def simplified(self, ranges: Ranges, floor: float) -> Ranges:
        """Leave out, as long as precision stays, the bound without which most people of the cluster are matched."""
        while True:
            best: tuple[float, Ranges] | None = None
            for shorter in self._shorter(ranges):
                matched = self.matched(shorter)
                if shorter and self.precision(matched) >= floor:
                    inside = self.people(matched)
                    best = max(best, (inside, shorter), key=lambda pair: pair[0]) if best else (inside, shorter)
            if best is None:
                return ranges
            ranges = best[1]

    def _shorter(self, ranges: Ranges) -> list[Ranges]:
        found = []
        for question, (low, high) in ranges.items():
            top = self.n_answers[question] - 1
            if low > 0 and high < top:
                found += [{**ranges, question: (0, high)}, {**ranges, question: (low, top)}]
            found.append({q: bounds for q, bounds in ranges.items() if q != question})
        return found

    def chosen(self, rules: list[Ranges], max_rules: int, floor: float) -> list[Ranges]:
        """Take the rule that adds most of the cluster, while all together stay precise and it is worth a line."""
        matches = [self.matched(rule) for rule in rules]
        united = self.united.copy()
        taken: list[Ranges] = []
        while len(taken) < max_rules:
            gains = [self._gain(match, united, floor) for match in matches]
            best = int(np.argmax(gains)) if gains else -1
            if best < 0 or gains[best] <= (LEAST_GAIN * self.total if taken or self.n_taken else 0.0):
                return taken
            taken.append(rules[best])
            united |= matches[best]
        return taken

    def _gain(self, match: NDArray[np.bool_], united: NDArray[np.bool_], floor: float) -> float:
        """Return how many more people of the cluster a rule would add, 0 if too many others come with them."""
        if self.precision(united | match) < floor:
            return 0.0
        return self.people(match & ~united)


def _inside(path: Ranges, above: Ranges) -> bool:
    """Tell whether whoever fulfils `path` fulfils `above`."""
    return all(q in path and path[q][0] >= low and path[q][1] <= high for q, (low, high) in above.items())

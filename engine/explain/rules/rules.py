"""Find the rules of a cluster: conjunctions of few conditions, taken from the nodes of a one-vs-rest tree.

    one-vs-rest tree, bins, membership, weights  ->  RuleSet

Candidates are the shallowest nodes that are precise enough. Each is simplified by leaving out the bounds that it does
not need, and a greedy set cover chooses among them. A person is in the cluster if any of its rules matches. Precision
is the share of the people a rule matches who are in the cluster; coverage is the share of the cluster it matches.

What has to be precise is the union of a cluster's rules. So where the first rule is more precise than need be, a
further one may be less so; the union then has to reach the precision one standard error below what the rows show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.config import ExplainConfig
from engine.explain.binning.binner import Bins
from engine.explain.rules.decision_tree import Ranges, Tree, Weights
from engine.explain.rules.scores import AnyRule, match_rule

PRIOR_ERRORS = 1.0  # sampled rows added to the errors of every rule, so that rules which match few rows need proof
MAX_CONDITIONS = 5  # of a further rule: people do not read longer ones
MIN_GAIN = 0.05  # share of the cluster that a further rule must add
MAX_SHORTFALL = 0.1  # of the precision of a further rule, among the people whom the rules before it do not match
STANDARD_ERRORS = 1.0  # below the precision on rows that were learned from


@dataclass(frozen=True)
class RuleSet:
    """The rules of a cluster, in the order of people they add, or one score; and whether they are precise enough."""

    rules: tuple[AnyRule, ...]
    precise: bool


def find_rules(
    tree: Tree,
    bins: Bins,
    in_cluster: NDArray[np.bool_],
    weights: Weights,
    n_bins: list[int],
    settings: ExplainConfig,
    *,
    predicates: NDArray[np.int64],
    accepted: tuple[AnyRule, ...] = (),
) -> RuleSet:
    """Choose the rules of a cluster among the nodes of its tree, in addition to the rules accepted already.

    Parameters
    ----------
    tree : Tree
        Grown on `predicates`; its nodes are the candidates.
    bins : uint8 array of shape (n_predicates, n_rows)
    in_cluster : bool array of shape (n_rows,)
    weights : float64 array of shape (n_rows,)
    n_bins : list of int
        Number of bins of each of the tree's predicates.
    settings : ExplainConfig
        The smallest precision and number of people of a rule, and the largest number of rules.
    predicates : int array of shape (n_tree_predicates,)
        The tree's predicate p is row predicates[p] of `bins`.
    accepted : tuple of Ranges or Score
        Rules of the cluster found before. A further rule is measured together with them.

    Returns
    -------
    RuleSet
        The accepted rules, then the further ones. If no rule is precise enough, the one of the highest F-score.
    """
    n_bins_of = {int(p): n for p, n in zip(predicates, n_bins, strict=True)}
    min_own_precision = settings.min_precision - MAX_SHORTFALL
    evaluator = _RuleEvaluator(bins, in_cluster, weights, n_bins_of, accepted, min_own_precision)
    paths = [{int(predicates[p]): bounds for p, bounds in path.items()} for path in tree.paths(n_bins)]
    paths = [path for path in paths if path and evaluator.people(evaluator.match(path)) >= settings.min_people]
    precise = [path for path in paths if evaluator.precision(evaluator.match(path)) >= settings.min_precision]
    if not precise and accepted:
        return RuleSet(accepted, precise=True)
    if not precise:
        best = max(paths, key=lambda path: evaluator.f_score(evaluator.match(path)), default={})
        min_precision = evaluator.precision(evaluator.match(best)) if best else 0.0
        return RuleSet((evaluator.simplify(best, min_precision),) if best else (), precise=False)
    by_length = sorted(precise, key=len)
    shallowest = [path for n, path in enumerate(by_length) if not any(_implies(path, other) for other in by_length[:n])]
    candidates = [evaluator.simplify(path, settings.min_precision) for path in shallowest]
    if accepted:
        candidates = [rule for rule in candidates if len(rule) <= MAX_CONDITIONS]
    further = evaluator.select(candidates, settings.max_rules - len(accepted), settings.min_precision)
    return RuleSet((*accepted, *further), precise=True)


def match_any_rule(rules: Sequence[AnyRule], bins: Bins) -> NDArray[np.bool_]:
    """Return which rows at least one rule matches, of shape (n_rows,)."""
    matched = np.zeros(bins.shape[1], bool)
    for rule in rules:
        matched |= match_rule(rule, bins)
    return matched


class _RuleEvaluator:
    """Evaluates, simplifies and selects the rules of one cluster on sampled rows."""

    def __init__(
        self,
        bins: Bins,
        in_cluster: NDArray[np.bool_],
        weights: Weights,
        n_bins: dict[int, int],
        accepted: tuple[AnyRule, ...],
        min_own_precision: float = 0.0,
    ) -> None:
        self.min_own_precision = min_own_precision  # of a further rule, on rows that no accepted rule matches
        self.bins, self.in_cluster, self.weights, self.n_bins = bins, in_cluster, weights, n_bins
        self.covered, self.n_accepted = match_any_rule(accepted, bins), len(accepted)
        self.cluster_size = float(weights[in_cluster].sum())
        self.row = float(weights[in_cluster].mean()) if in_cluster.any() else 1.0  # people whom a row stands for
        self.prior_errors = PRIOR_ERRORS * self.row

    def match(self, ranges: Ranges) -> NDArray[np.bool_]:
        return match_rule(ranges, self.bins)

    def people(self, matched: NDArray[np.bool_]) -> float:
        """Return the number of people of the cluster that a rule matches and no accepted rule does."""
        return float(self.weights[matched & self.in_cluster & ~self.covered].sum())

    def precision(self, matched: NDArray[np.bool_]) -> float:
        """Return the precision of a first rule; of a further one, that of all together, less a standard error.

        A further rule has precision 0 if it is too imprecise by itself, on rows that no accepted rule matches.
        """
        if not self.n_accepted:
            return self._precision(matched)
        if self._precision(matched & ~self.covered) < self.min_own_precision:
            return 0.0
        union = matched | self.covered
        precision, people = self._precision(union), float(self.weights[union].sum()) + self.prior_errors
        error = np.sqrt(precision * (1 - precision) * self.row / people)
        return float(precision - STANDARD_ERRORS * error)

    def _precision(self, matched: NDArray[np.bool_]) -> float:
        people = float(self.weights[matched].sum())
        return float(self.weights[matched & self.in_cluster].sum()) / (people + self.prior_errors) if people else 0.0

    def f_score(self, matched: NDArray[np.bool_]) -> float:
        """Return the F-score with beta = 1/2: precision counts more than coverage."""
        precision = self.precision(matched)
        coverage = self.people(matched) / self.cluster_size
        return 1.25 * precision * coverage / (0.25 * precision + coverage) if precision > 0 else 0.0

    def simplify(self, ranges: Ranges, min_precision: float) -> Ranges:
        """Drop bounds while the precision allows, each time the one without which most of the cluster is matched."""
        while True:
            best: tuple[float, Ranges] | None = None
            for shorter in self._generalizations(ranges):
                matched = self.match(shorter)
                if shorter and self.precision(matched) >= min_precision:
                    people = self.people(matched)
                    best = max(best, (people, shorter), key=lambda pair: pair[0]) if best else (people, shorter)
            if best is None:
                return ranges
            ranges = best[1]

    def _generalizations(self, ranges: Ranges) -> list[Ranges]:
        """Return the rule without one of its bounds or conditions, in every way."""
        rules = []
        for predicate, (low, high) in ranges.items():
            top = self.n_bins[predicate] - 1
            if low > 0 and high < top:
                rules += [{**ranges, predicate: (0, high)}, {**ranges, predicate: (low, top)}]
            rules.append({p: bounds for p, bounds in ranges.items() if p != predicate})
        return rules

    def select(self, rules: list[Ranges], max_rules: int, min_precision: float) -> list[Ranges]:
        """Select rules greedily by the people of the cluster they add, while the union stays precise enough."""
        matches = [self.match(rule) for rule in rules]
        covered = self.covered.copy()
        selected: list[Ranges] = []
        while len(selected) < max_rules:
            gains = [self._gain(matched, covered, min_precision) for matched in matches]
            best = int(np.argmax(gains)) if gains else -1
            min_gain = MIN_GAIN * self.cluster_size if selected or self.n_accepted else 0.0
            if best < 0 or gains[best] <= min_gain:
                return selected
            selected.append(rules[best])
            covered |= matches[best]
        return selected

    def _gain(self, matched: NDArray[np.bool_], covered: NDArray[np.bool_], min_precision: float) -> float:
        """Return the people of the cluster that a rule would add, or 0 if the union would not be precise enough."""
        if self.precision(covered | matched) < min_precision:
            return 0.0
        return self.people(matched & ~covered)


def _implies(path: Ranges, other: Ranges) -> bool:
    """Return whether every row that matches `path` matches `other`."""
    return all(p in path and path[p][0] >= low and path[p][1] <= high for p, (low, high) in other.items())

"""Find the score of a cluster: a few conditions with small integer points, and the points that a person needs.

    bins, membership, weights      ->  Score
    RuleSet, Score, validation rows  ->  whichever of both is better

A conjunction asks for every condition; a score asks for enough of them, "at least 3 of these 6". So it reaches
clusters that many small differences add up to, which no few conditions hold for. Conditions are chosen by forward
selection: each further one is the range of a predicate that a Newton step of logistic regression gains most by. Points
of 1 to 3, and the points needed, are then the best of all, for nine conditions have few enough combinations to try
them all; and each condition in turn is exchanged for the best one beside the others.

Best is the greatest coverage at the wanted precision, less what a further condition or point costs a reader. The
precision has to be reached one standard error below what the rows show, so that unseen rows reach it as well.

Sources of the idea: M-of-N rules (Towell & Shavlik, "Extracting refined rules from knowledge-based neural networks",
Machine Learning 13, 1993); scoring systems (Ustun & Rudin, "Supersparse linear integer models for optimized medical
scoring systems", Machine Learning 102, 2016, and "Learning optimized risk scores", JMLR 20, 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engine.explain.binning.binner import Bins
from engine.explain.rules.decision_tree import Weights
from engine.explain.rules.imm_tree import WeightedRows
from engine.explain.rules.rules import STANDARD_ERRORS, RuleSet, match_any_rule
from engine.explain.rules.scores import Mask, Score, Term, match_rule, rule_terms
from engine.kernels.cpu.explain.predicates import accumulate_histograms
from engine.kernels.cpu.explain.scores import best_points, best_range_beside

MAX_TERMS = 9  # conditions of a score: 4^9 ways to give each 0 to 3 points are few enough to try all
MAX_POINTS = 3  # of a condition
CELLS = 12  # into which the bins of a predicate are put together for the search of ranges
SWEEPS = 3  # times that every condition is exchanged for a better one
COST_OF_TERM = 0.01  # share of the cluster that a further condition has to add
COST_OF_POINTS = 0.01  # share of the cluster that points other than 1 have to add
SIGNIFICANT = 2.0  # standard errors by which a difference counts
RIDGE = 1.0  # penalty of the logistic regression, in rows

Floats = NDArray[np.float64]


def find_score(
    bins: Bins,
    in_cluster: Mask,
    weights: Weights,
    n_bins: dict[int, int],
    min_precision: float,
    start_terms: Sequence[Term] = (),
    max_terms: int = MAX_TERMS,
) -> Score | None:
    """Find the score that covers most of a cluster at a precision.

    Parameters
    ----------
    bins : uint8 array of shape (n_predicates, n_rows)
    in_cluster : bool array of shape (n_rows,)
    weights : float64 array of shape (n_rows,)
    n_bins : dict of predicate to int
        The predicates that may be asked, and their numbers of bins.
    min_precision : float
    start_terms : sequence of Term
        Where a second search starts beside that from a forward selection: the terms of a conjunction.
    max_terms : int, default=9

    Returns
    -------
    Score or None
        None if no score of at least two conditions reaches the precision.
    """
    search = _Search(bins, in_cluster, weights, n_bins, min_precision)
    best: tuple[float, Score] | None = None
    for start in (search.forward(max_terms), list(start_terms)):
        found = search.climb(start, max_terms)
        if found is not None and (best is None or found[0] > best[0]):
            best = found
    return None if best is None else best[1]


def prefer_score(
    rule_set: RuleSet,
    train: WeightedRows,
    validation: WeightedRows,
    cluster: int,
    n_bins: dict[int, int],
    min_precision: float,
) -> RuleSet:
    """Return the score of a cluster where it is better than its rules on validation rows, else the rules.

    It is better if it covers significantly more members (McNemar's test), and is not significantly less precise than
    wanted. The rules were measured on these rows when they were chosen, the score was not.

    Parameters
    ----------
    rule_set : RuleSet
    train, validation : bins (n_predicates, n_rows), labels (n_rows,) and weights (n_rows,)
    cluster : int
    n_bins : dict of predicate to int
    min_precision : float
    """
    bins, labels, weights = validation
    member, before = labels == cluster, match_any_rule(rule_set.rules, bins)
    n_missed = int((member & ~before).sum())
    if not member.any() or (rule_set.precise and n_missed <= SIGNIFICANT * np.sqrt(n_missed)):
        return rule_set  # whatever a score matched, it would not be better
    bins, labels, weights = train
    start = rule_terms(rule_set.rules[0])[0] if len(rule_set.rules) == 1 else ()
    score = find_score(bins, labels == cluster, weights, n_bins, min_precision, start)
    if score is None:
        return rule_set
    bins, labels, weights = validation
    matched = match_rule(score, bins)
    if not (matched & member).any():
        return rule_set
    gained, lost = int((matched & ~before & member).sum()), int((before & ~matched & member).sum())
    precision = float(weights[matched & member].sum() / weights[matched].sum())
    if rule_set.precise:
        is_better = gained - lost > SIGNIFICANT * np.sqrt(gained + lost)
    else:
        of_rules = float(weights[before & member].sum() / weights[before].sum()) if before.any() else 0.0
        is_better = gained >= lost and precision >= of_rules
    error = np.sqrt(min_precision * (1 - min_precision) * weights[member].mean() / weights[matched].sum())
    is_precise = precision >= min_precision - SIGNIFICANT * error
    return RuleSet((score,), precise=True) if is_better and is_precise else rule_set


class _Search:
    """The search for the score of one cluster."""

    def __init__(
        self, bins: Bins, in_cluster: Mask, weights: Weights, n_bins: dict[int, int], min_precision: float
    ) -> None:
        self.bins, self.member, self.weights = bins, in_cluster, weights
        self.min_precision = min_precision
        self.size = float(weights[in_cluster].sum())
        self.row = self.size / max(int(in_cluster.sum()), 1)  # people that a row of the cluster stands for
        self.predicates = np.array(sorted(n_bins), np.int64)
        self.cuts = [_cuts(n_bins[p]) for p in self.predicates.tolist()]
        self.cells = np.empty((len(self.predicates), bins.shape[1]), np.uint8)
        for line, (p, cuts) in enumerate(zip(self.predicates.tolist(), self.cuts, strict=True)):
            cell_of = np.searchsorted(cuts, np.arange(256), side="right") - 1
            self.cells[line] = cell_of.astype(np.uint8)[bins[p]]
        self.n_cells = np.array([len(cuts) - 1 for cuts in self.cuts], np.int64)
        self.ranges = [_ranges(len(cuts) - 1) for cuts in self.cuts]
        self.all_rows = np.arange(bins.shape[1])
        self.best_scores: dict[tuple[tuple[int, int, int], ...], tuple[float, Score]] = {}

    def forward(self, max_terms: int) -> list[Term]:
        """Return the terms of a forward selection by logistic regression, and their coefficients."""
        weights = self.weights / self.row
        X, y = np.ones((len(weights), 1)), self.member.astype(np.float64)
        share = float((weights * y).sum() / weights.sum())
        coefficients = np.array([np.log(share / (1 - share))])
        terms: list[Term] = []
        while len(terms) < max_terms:
            p = _sigmoid(X @ coefficients)
            term = self._steepest(weights * (y - p), weights * p * (1 - p))
            if term is None or term in terms:
                break
            terms.append(term)
            X = np.column_stack([X, term.holds(self.bins)])
            coefficients = _refit(X, y, weights, np.append(coefficients, 0.0))
        return terms

    def _steepest(self, gradient: Floats, hessian: Floats) -> Term | None:
        """Return the range whose Newton step gains most, among those that speak for the cluster."""
        zeros = np.zeros(len(gradient), np.int32)
        histograms = np.zeros((2, len(self.predicates), 1, CELLS))
        for histogram, values in zip(histograms, (gradient, hessian), strict=True):
            accumulate_histograms(self.cells, self.all_rows, zeros, values, histogram)
        total = float(hessian.sum())
        best, best_gain = None, 1e-9
        for line, (low, high) in enumerate(self.ranges):
            G, H = _sums(histograms[:, line, 0], low, high)
            gain = np.maximum(G, 0.0) ** 2 / (H * (1 - H / total) + RIDGE)
            i = int(gain.argmax())
            if gain[i] > best_gain:
                best, best_gain = self._term(line, int(low[i]), int(high[i]), 1), float(gain[i])
        return best

    def _term(self, line: int, low: int, high: int, points: int) -> Term:
        cuts = self.cuts[line]
        return Term(int(self.predicates[line]), int(cuts[low]), int(cuts[high + 1]) - 1, points)

    def climb(self, terms: list[Term], max_terms: int) -> tuple[float, Score] | None:
        """Return the best score that is reached from terms, and its worth less its cost; None if none is precise."""
        best: tuple[float, Score] | None = None
        for _ in range(SWEEPS):
            if not terms:
                return None
            found = self.best_score(terms[:max_terms])
            if best is not None and found[0] <= best[0] + 1e-6:
                break
            best = found
            terms = self.exchange(list(best[1].terms), max_terms)
        return best if best is not None and best[0] > 0 and len(best[1].terms) > 1 else None

    def best_score(self, terms: Sequence[Term]) -> tuple[float, Score]:
        """Return the score with the best points of all for these terms, and its worth less its cost."""
        ranges = tuple((term.predicate, term.low, term.high) for term in terms)  # searches end in the same ones
        if ranges not in self.best_scores:
            self.best_scores[ranges] = self._compute_best_score(terms)
        return self.best_scores[ranges]

    def _compute_best_score(self, terms: Sequence[Term]) -> tuple[float, Score]:
        pattern = np.zeros(self.bins.shape[1], np.int64)
        for bit, term in enumerate(terms):
            pattern |= term.holds(self.bins).astype(np.int64) << bit
        n_patterns = 1 << len(terms)
        members, others = (np.bincount(pattern[of], self.weights[of], n_patterns) for of in (self.member, ~self.member))
        seen = np.flatnonzero(members + others)
        points, needed, worth = best_points(
            seen, members[seen], others[seen], len(terms), MAX_POINTS,
            self.row, self.min_precision, STANDARD_ERRORS, COST_OF_TERM, COST_OF_POINTS,
        )  # fmt: skip
        kept = [replace(term, points=int(n)) for term, n in zip(terms, points, strict=True) if n]
        return float(worth), Score(tuple(kept), int(needed))

    def best_threshold(self, terms: Sequence[Term]) -> tuple[float, int]:
        """Return the worth of terms with the best number of points needed, and that number."""
        points = self.points(terms)
        n_levels = int(points.max()) + 1
        tails = [
            np.bincount(points[of], self.weights[of], n_levels)[::-1].cumsum()[::-1]
            for of in (self.member, ~self.member)
        ]
        worth = self.worth(*tails)
        worth[0] = -np.inf  # everybody
        needed = int(worth.argmax())
        return float(worth[needed]), needed

    def points(self, terms: Sequence[Term]) -> NDArray[np.int64]:
        """Return the points of every row."""
        points = np.zeros(self.bins.shape[1], np.int64)
        for term in terms:
            points += term.points * term.holds(self.bins)
        return points

    def worth(self, members: Floats, others: Floats) -> Floats:
        """Return the coverage of rows with these people, or a shortfall below 0 where they are not precise enough."""
        people = members + others + self.row  # a row more of errors, so that few rows need proof
        precision = members / people
        least = precision - STANDARD_ERRORS * np.sqrt(precision * (1 - precision) * self.row / people)
        return np.where(least >= self.min_precision, members / self.size, least - self.min_precision - 1.0)

    def exchange(self, terms: list[Term], max_terms: int) -> list[Term]:
        """Add terms, and exchange each for the one that is worth most beside the others."""
        points = self.points(terms)
        while len(terms) < max_terms:
            found = self._best_beside(points)
            assert found is not None
            terms.append(found[1])
            points += terms[-1].points * terms[-1].holds(self.bins)
        worth = self.best_threshold(terms)[0]
        for number in range(len(terms)):
            rest = terms[:number] + terms[number + 1 :]
            found = self._best_beside(self.points(rest), worth)
            if found is not None and found[0] > worth + 1e-6:
                worth, term = found
                terms = [*rest[:number], term, *rest[number:]]
        return terms

    def _best_beside(self, points: NDArray[np.int64], worth: float = -np.inf) -> tuple[float, Term] | None:
        """Return the term that is worth most beside the points that others give, and what all are worth then.

        None if that is no more than `worth`.
        """
        n_levels = int(points.max()) + 1
        histograms = np.zeros((len(self.predicates), 2 * n_levels, CELLS))
        label = (points * 2 + self.member).astype(np.int32)
        accumulate_histograms(self.cells, self.all_rows, label, self.weights, histograms)
        tails = np.zeros((n_levels + 1, 2))
        tails[:-1] = histograms[0].sum(axis=1).reshape(n_levels, 2)[::-1].cumsum(axis=0)[::-1]
        reached, line, low, high, extra = best_range_beside(
            histograms, self.n_cells, tails, MAX_POINTS,
            self.size, self.row, self.min_precision, STANDARD_ERRORS, worth,
        )  # fmt: skip
        return None if line < 0 else (float(reached), self._term(line, low, high, extra))


def _cuts(n_bins: int) -> NDArray[np.int64]:
    """Return the first bin of each cell, and the number of bins."""
    return np.unique(np.linspace(0, n_bins, min(n_bins, CELLS) + 1).round().astype(np.int64))


def _ranges(n_cells: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first and the last cell of every range but that of all cells."""
    pairs = [(a, b) for a in range(n_cells) for b in range(a, n_cells) if (a, b) != (0, n_cells - 1)]
    low, high = np.array(pairs, np.int64).T
    return low, high


def _sums(histogram: Floats, low: NDArray[np.int64], high: NDArray[np.int64]) -> Floats:
    """Return the sums over ranges of the last axis."""
    cumulative = np.concatenate([np.zeros((*histogram.shape[:-1], 1)), histogram.cumsum(axis=-1)], axis=-1)
    sums: Floats = cumulative[..., high + 1] - cumulative[..., low]
    return sums


def _sigmoid(x: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-np.clip(x, -30, 30)))


def _refit(X: Floats, y: Floats, weights: Floats, coefficients: Floats) -> Floats:
    """Return the coefficients after a few Newton steps."""
    ridge = RIDGE * np.eye(X.shape[1])
    ridge[0, 0] = 1e-6
    for _ in range(4):
        p = _sigmoid(X @ coefficients)
        gradient = X.T @ (weights * (y - p)) - ridge @ coefficients
        hessian = (X * (weights * p * (1 - p))[:, None]).T @ X + ridge
        coefficients = coefficients + np.linalg.solve(hessian, gradient)
    return coefficients

"""Explain a clustering by rules and by three trees: learned on a sample, measured on unseen rows and on all rows.

    RowSample  -> bins                               of the predicates, for the sampled rows
               -> overview, short and full tree      over all clusters
               -> RuleSet of each cluster            from trees of that cluster against the rest
               -> Explanation                        after one pass over the packed bins of all rows

Trees over all clusters are grown on three fifths of the sample, pruned on a fifth (validation), and measured on the
last fifth (test). Rules are found by sequential covering: the next tree is grown on the rows that no rule of the
cluster matches yet. These trees are not pruned, so they are grown on four fifths. Where rules leave much of a cluster
out, a score, learned from three fifths, takes their place if it covers more of it on validation rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.backends.protocol import Backend
from engine.config import ExplainConfig
from engine.execution.threads import map_blocks
from engine.explain.binning.binner import Binner, Bins, PackedBins
from engine.explain.binning.predicates import Predicate
from engine.explain.row_sample import RowSample
from engine.explain.rules.conditions import Condition
from engine.explain.rules.decision_tree import LEAF, Labels, Ranges, Tree, grow_tree, prune_tree, select_predicates
from engine.explain.rules.imm_tree import WeightedRows, grow_small_tree
from engine.explain.rules.permutation import permutation_importance
from engine.explain.rules.rule_metrics import Counts, RuleCounter, RuleCounts, count_all
from engine.explain.rules.rules import RuleSet, find_rules, match_any_rule
from engine.explain.rules.score_search import SIGNIFICANT, prefer_score
from engine.explain.rules.scores import affirm_rule, rule_terms
from engine.utils.row_sampling import row_keys

OVERVIEW_DEPTH = 3  # eight leaves: what fits on a page, as in the study that the engine goes back to
PREDICATES_PER_CLUSTER = 24  # candidates of a one-vs-rest tree; all 125 predicates of the demo give the same precision
DEPTH_PER_CLUSTER, LEAVES_PER_CLUSTER = 8, 64  # largest depth and number of leaves of a one-vs-rest tree
# Rows of other clusters that a one-vs-rest tree is grown on: per row of the cluster, and at least. Rules are evaluated
# on all sampled rows.
NEGATIVES_PER_MEMBER, MIN_NEGATIVES = 3, 3000
MIN_COVERAGE = 0.1  # share of a cluster below which its rules do not describe it, and are left out
ENOUGH_COVERAGE = 0.9  # share of a cluster from which no further rules are searched
SMALL_TREE_ROWS = 6000  # rows for a small tree; on the demo twelve leaves name 95.6 % with 6,000 as with 12,000
TRAIN_FIFTHS, TRAIN_AND_VALIDATION_FIFTHS = 3, 4


Mask = NDArray[np.bool_]
Predicates = tuple[Predicate, ...]


@dataclass(frozen=True)
class Rule:
    """One rule of a cluster, counted on all rows: a person matches who has the points needed."""

    conditions: tuple[Condition, ...]
    points: tuple[int, ...]  # of each condition; of a conjunction 1 each
    needed: int
    n_matched: int
    n_correct: int
    cluster_size: int

    @property
    def precision(self) -> float:
        """Share of the people it matches who are in the cluster."""
        return self.n_correct / self.n_matched if self.n_matched else 0.0

    @property
    def coverage(self) -> float:
        """Share of the cluster it matches."""
        return self.n_correct / self.cluster_size if self.cluster_size else 0.0


@dataclass(frozen=True)
class ClusterRules:
    """All rules of one cluster, and the precision and coverage of their union."""

    rules: tuple[Rule, ...]
    precision: float
    coverage: float
    n_matched: int
    precise: bool  # whether the rules reach the wanted precision
    on_unseen: tuple[float, float]  # precision and coverage on the sampled rows of the test fifth


@dataclass(frozen=True)
class EvaluatedTree:
    """A tree over all clusters, the people of each cluster in each leaf, and its fidelity on all and on unseen rows."""

    tree: Tree
    counts: Counts
    fidelity_unseen: float
    fidelity: float


@dataclass(frozen=True)
class Explanation:
    """The rules and trees of a clustering."""

    predicates: Predicates
    overview: EvaluatedTree
    short: EvaluatedTree  # as many leaves as clusters
    full: EvaluatedTree
    clusters: tuple[ClusterRules, ...]
    n_sampled: int
    n_unseen: int
    column_importance: Mapping[str, float]  # by permutation on the full tree and unseen rows; 0 for columns not in it

    def conditions(self, ranges: Ranges) -> tuple[Condition, ...]:
        """Return ranges of bins as conditions."""
        return tuple(Condition(self.predicates[p], low, high) for p, (low, high) in ranges.items())


def explain(
    packed: PackedBins,
    binner: Binner,
    labels: Labels,
    sample: RowSample,
    settings: ExplainConfig,
    seed: int,
    backend: Backend | None = None,
) -> Explanation:
    """Explain a clustering.

    Parameters
    ----------
    packed : uint8 array of shape (n_lines, n_rows)
        The packed bins of all rows.
    binner : Binner
    labels : int32 array of shape (n_rows,)
    sample : RowSample
    settings : ExplainConfig
    seed : int
        Key of the division of the sample into fifths.
    backend : Backend, optional
        What counts the rows that rules match.

    Returns
    -------
    Explanation
    """
    predicates, bins = binner.predicates, binner.unpack(np.ascontiguousarray(packed[:, sample.rows]))
    fifth = row_keys(seed + 1, sample.rows) % np.uint64(5)
    train, seen = fifth < TRAIN_FIFTHS, fifth < TRAIN_AND_VALIDATION_FIFTHS
    if not train.any() or len(np.unique(sample.labels)) < 2 or len(predicates) == 0:
        train = seen = np.ones(len(sample.rows), bool)
    trees = _grow_trees(bins, sample, train, seen)

    def count(rule_sets: Sequence[RuleSet]) -> RuleCounts:
        counter = RuleCounter(binner, trees, [rule_set.rules for rule_set in rule_sets])
        return count_all(packed, labels, counter, backend)

    test = _select_rows(bins, sample, ~seen if not seen.all() else seen)
    rule_sets = [
        _check_on_unseen(rule_set, test, cluster, settings.min_precision)
        for cluster, rule_set in enumerate(_find_rule_sets(bins, sample, predicates, trees[-1], train, seen, settings))
    ]
    counts = count(rule_sets)
    while (counts.rules[:, 1] < settings.min_people).any():  # the sample had estimated more people for a rule
        rule_sets = _drop_rules(rule_sets, counts.rules[:, 1] < settings.min_people)
        counts = count(rule_sets)
    describes = counts.clusters[:, 1] >= MIN_COVERAGE * sample.sizes
    if not describes.all():
        drop = np.repeat(~describes, [len(rule_set.rules) for rule_set in rule_sets])
        rule_sets = _drop_rules(rule_sets, drop)
        counts = count(rule_sets)
    overview, short, full = (_evaluate_tree(number, tree, counts, test) for number, tree in enumerate(trees))
    return Explanation(
        predicates,
        overview,
        short,
        full,
        tuple(_evaluate_rules(predicates, rule_sets, counts, test, sample.sizes)),
        n_sampled=len(sample.rows),
        n_unseen=int((~seen).sum()),
        column_importance=permutation_importance(trees[-1], predicates, test),
    )


def _select_rows(bins: Bins, sample: RowSample, rows: Mask) -> WeightedRows:
    return np.ascontiguousarray(bins[:, rows]), sample.labels[rows], sample.weights[rows]


def _grow_trees(bins: Bins, sample: RowSample, train: Mask, seen: Mask) -> tuple[Tree, Tree, Tree]:
    """Grow the overview, the short tree and the full one."""
    train_rows, validation_rows = _select_rows(bins, sample, train), _select_rows(bins, sample, seen & ~train)
    subsamples = _subsample(train_rows), _subsample(validation_rows)
    k, max_leaves = sample.n_clusters, 2**OVERVIEW_DEPTH
    overview = grow_small_tree(*subsamples, k, max_leaves=max_leaves, max_depth=OVERVIEW_DEPTH)
    short = grow_small_tree(*subsamples, k, max_leaves=max(k, 2))
    return overview, short, prune_tree(grow_tree(*train_rows), *validation_rows)


def _subsample(rows: WeightedRows) -> WeightedRows:
    """Return every n-th row, at most SMALL_TREE_ROWS: a tree of few leaves gets no better with more."""
    bins, labels, weights = rows
    step = -(-len(labels) // SMALL_TREE_ROWS) or 1
    contiguous = np.ascontiguousarray  # or kernels are compiled for strides as well
    return contiguous(bins[:, ::step]), contiguous(labels[::step]), contiguous(weights[::step])


def _find_rule_sets(
    bins: Bins,
    sample: RowSample,
    predicates: Predicates,
    full: Tree,
    train: Mask,
    seen: Mask,
    settings: ExplainConfig,
) -> list[RuleSet]:
    """Find the rules of every cluster."""
    train_rows, seen_rows = _select_rows(bins, sample, train), _select_rows(bins, sample, seen)
    seen_bins, seen_labels, seen_weights = seen_rows
    validation_rows = _select_rows(bins, sample, seen & ~train)
    selected = select_predicates(*train_rows, sample.n_clusters, PREDICATES_PER_CLUSTER)
    # The full tree's most frequent predicates separate clusters together with others, but perhaps not alone.
    of_full_tree = Counter(full.predicate[full.predicate != LEAF].tolist())
    frequent = np.array([p for p, _ in of_full_tree.most_common(PREDICATES_PER_CLUSTER)], np.int64)
    complement = find_complementary_categories(predicates, bins)

    def affirm(rule_set: RuleSet) -> RuleSet:
        """Say "gender is F" where that is what "gender is not M" means."""
        return RuleSet(tuple(affirm_rule(rule, complement) for rule in rule_set.rules), rule_set.precise)

    def find_for(cluster: int) -> RuleSet:
        candidates = np.unique(np.concatenate([selected[cluster], frequent]))
        in_cluster, seen_in_cluster = train_rows[1] == cluster, seen_labels == cluster
        rule_set = RuleSet((), precise=False)
        if len(candidates) == 0 or not in_cluster.any() or in_cluster.all():
            return rule_set
        n_bins = [predicates[p].n_bins for p in candidates]
        while True:
            not_covered = ~match_any_rule(rule_set.rules, seen_bins)
            tree = _grow_one_vs_rest(seen_rows, candidates, seen_in_cluster, not_covered)
            n_before = len(rule_set.rules)
            rule_set = find_rules(
                tree, seen_bins, seen_in_cluster, seen_weights, n_bins, settings,
                predicates=candidates, accepted=rule_set.rules,
            )  # fmt: skip
            covered = match_any_rule(rule_set.rules, seen_bins) & seen_in_cluster
            enough = seen_weights[covered].sum() >= ENOUGH_COVERAGE * seen_weights[seen_in_cluster].sum()
            if not rule_set.precise or enough or len(rule_set.rules) in (n_before, settings.max_rules):
                break
        if enough and rule_set.precise:
            return rule_set
        n_bins_of = dict(zip(candidates.tolist(), n_bins, strict=True))
        return prefer_score(rule_set, train_rows, validation_rows, cluster, n_bins_of, settings.min_precision)

    return [affirm(rule_set) for rule_set in map_blocks(find_for, range(sample.n_clusters))]


def find_complementary_categories(predicates: Predicates, bins: Bins) -> dict[int, int]:
    """Return, for each of two categories that divide all sampled people between them, the other one."""
    by_column: dict[str, list[int]] = {}
    for index, predicate in enumerate(predicates):
        if predicate.kind == "category":
            by_column.setdefault(predicate.column, []).append(index)
    pairs = [pair for pair in by_column.values() if len(pair) == 2 and (bins[pair[0]] + bins[pair[1]] == 1).all()]
    return {a: b for pair in pairs for a, b in (pair, pair[::-1])}


def _grow_one_vs_rest(rows: WeightedRows, predicates: NDArray[np.int64], in_cluster: Mask, not_covered: Mask) -> Tree:
    """Grow a tree of a cluster against the rest, on the rows that no rule covers."""
    bins, _, weights = rows
    chosen, step = _sample_negatives(in_cluster & not_covered, ~in_cluster & not_covered)
    return grow_tree(
        bins[np.ix_(predicates, chosen)], in_cluster[chosen].astype(np.int32),
        weights[chosen] * np.where(in_cluster[chosen], 1.0, step),
        max_depth=DEPTH_PER_CLUSTER, max_leaves=LEAVES_PER_CLUSTER,
    )  # fmt: skip


def _sample_negatives(positive: Mask, negative: Mask) -> tuple[NDArray[np.int64], float]:
    """Return the positive rows and every step-th negative one, in order, and step: enough to grow a tree on."""
    negatives = np.flatnonzero(negative)
    step = max(1, len(negatives) // max(NEGATIVES_PER_MEMBER * int(positive.sum()), MIN_NEGATIVES))
    return np.sort(np.concatenate([np.flatnonzero(positive), negatives[::step]])), float(step)


def _check_on_unseen(rule_set: RuleSet, test: WeightedRows, cluster: int, min_precision: float) -> RuleSet:
    """Return the rules that hold on rows which nothing was learned from.

    Rules that are significantly less precise there than wanted are no longer called precise. Where they cover too
    little of the cluster to describe it, none are left. Shares are those of Agresti and Coull ("Approximate is better
    than exact for interval estimation of binomial proportions", The American Statistician 52, 1998): two hits and two
    misses are added, so that a few rows decide nothing.
    """
    bins, labels, _ = test
    n_matched = int(match_any_rule(rule_set.rules, bins).sum())
    n_members = int((labels == cluster).sum())
    if not n_matched or not n_members:
        return rule_set
    precision, coverage = _evaluate_on(test, rule_set, cluster)
    if (coverage * n_members + 2) / (n_members + 4) < MIN_COVERAGE:
        return RuleSet((), precise=False)
    share = (precision * n_matched + 2) / (n_matched + 4)
    highest = share + SIGNIFICANT * np.sqrt(share * (1 - share) / (n_matched + 4))
    return RuleSet(rule_set.rules, rule_set.precise and bool(highest >= min_precision))


def _drop_rules(rule_sets: list[RuleSet], too_few: Mask) -> list[RuleSet]:
    """Return the rule sets without the marked rules."""
    drop = iter(too_few.tolist())
    remaining = [(tuple(rule for rule in rule_set.rules if not next(drop)), rule_set.precise) for rule_set in rule_sets]
    return [RuleSet(rules, precise and bool(rules)) for rules, precise in remaining]


def _evaluate_tree(number: int, tree: Tree, counts: RuleCounts, test: WeightedRows) -> EvaluatedTree:
    bins, labels, weights = test
    fidelity_unseen = float(weights[tree.predict(bins) == labels].sum() / weights.sum())
    return EvaluatedTree(tree, counts.nodes[number], fidelity_unseen, counts.fidelity(number, tree))


def _evaluate_rules(
    predicates: Predicates,
    rule_sets: list[RuleSet],
    counts: RuleCounts,
    test: WeightedRows,
    sizes: Counts,
) -> Iterator[ClusterRules]:
    rule_counts = iter(counts.rules.tolist())
    for cluster, rule_set in enumerate(rule_sets):
        size = int(sizes[cluster])
        rules = []
        for rule in rule_set.rules:
            n_matched, n_correct = next(rule_counts)
            terms, needed = rule_terms(rule)
            conditions = tuple(Condition(predicates[t.predicate], t.low, t.high) for t in terms)
            rules.append(Rule(conditions, tuple(t.points for t in terms), needed, n_matched, n_correct, size))
        n_matched, n_correct = counts.clusters[cluster].tolist()
        yield ClusterRules(
            tuple(rules),
            n_correct / n_matched if n_matched else 0.0,
            n_correct / size if size else 0.0,
            n_matched,
            rule_set.precise,
            _evaluate_on(test, rule_set, cluster),
        )


def _evaluate_on(rows: WeightedRows, rule_set: RuleSet, cluster: int) -> tuple[float, float]:
    """Return precision and coverage of the union of a cluster's rules; NaN if no row is matched, or in the cluster."""
    bins, labels, weights = rows
    matched = match_any_rule(rule_set.rules, bins)
    n_matched, n_members = weights[matched].sum(), weights[labels == cluster].sum()
    n_correct = weights[matched & (labels == cluster)].sum()
    precision = float(n_correct / n_matched) if n_matched else float("nan")
    coverage = float(n_correct / n_members) if n_members else float("nan")
    return precision, coverage

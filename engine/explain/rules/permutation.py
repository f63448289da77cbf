"""Permutation importance of columns: how much accuracy a tree loses if a column's values are shuffled.

    Tree, predicates, binned rows with clusters and weights  ->  {column: loss of accuracy}

All predicates of a column are shuffled together. A column that the tree does not test has the importance 0.

Of several columns that say the same, each alone has little. Source: Breiman, "Random forests", Machine Learning 45,
2001.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.explain.binning.predicates import Predicate
from engine.explain.rules.decision_tree import LEAF, Tree
from engine.explain.rules.imm_tree import WeightedRows

REPEATS = 3  # shuffles of each column, of which the mean counts
SEED = 0


def permutation_importance(tree: Tree, predicates: Sequence[Predicate], rows: WeightedRows) -> dict[str, float]:
    """Return the accuracy that the tree loses if a column is shuffled, for each column that it tests.

    Parameters
    ----------
    tree : Tree
    predicates : sequence of Predicate
        By the number that the tree knows them by.
    rows : bins (n_predicates, n_rows), labels (n_rows,) and weights (n_rows,)
        Rows that the tree was not grown on. Shuffled values come from rows drawn by weight, so that they are those of
        everybody.

    Returns
    -------
    dict of column to float
        Not below 0.
    """
    bins, labels, weights = rows
    by_column: dict[str, list[int]] = {}
    for number in np.unique(tree.predicate[tree.predicate != LEAF]).tolist():
        by_column.setdefault(predicates[number].column, []).append(number)
    random = np.random.RandomState(SEED)
    donors = [random.choice(len(labels), len(labels), p=weights / weights.sum()) for _ in range(REPEATS)]

    def accuracy(shuffled: np.ndarray) -> float:
        return float(weights[tree.predict(shuffled) == labels].sum() / weights.sum())

    before, importance = accuracy(bins), {}
    for column, numbers in by_column.items():
        after = []
        for drawn in donors:
            shuffled = bins.copy()
            shuffled[numbers] = bins[numbers][:, drawn]
            after.append(accuracy(shuffled))
        importance[column] = max(before - float(np.mean(after)), 0.0)
    return importance

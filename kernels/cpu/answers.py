"""Answer a block's questions and apply rules and trees to the answers.

    values (n_rows,) float64, cuts            -> answers (n_rows,) uint8: cuts reached
    offsets, codes of labels                  -> flags (n_labels, n_rows) uint8
    answers (n_questions, n_rows), a tree     -> leaf of every row
    answers, rules as ranges, labels          -> people matched, and matched rightly, a rule and a cluster

Answers lie one question after the other, so a rule touches only the lines it asks about. What the questions mean is
not here: engine/explain/questions.py.
"""

from __future__ import annotations

from math import isnan

import numpy as np
from numba import njit

ROWS_PER_TILE = 2048  # rows whose marks and values stay in L1; 1M rows x 25 rules: 90 ms, row by row 170 ms


@njit(nogil=True, cache=True)
def count_cuts(values, fill, cuts, out):  # type: ignore[no-untyped-def]
    """Write how many of the `cuts` each value has reached; NaN counts as `fill`."""
    filled = np.empty(ROWS_PER_TILE, np.float64)
    for start in range(0, values.shape[0], ROWS_PER_TILE):
        n = min(ROWS_PER_TILE, values.shape[0] - start)
        reached = out[start : start + n]
        for i in range(n):
            v = values[start + i]
            filled[i] = fill if isnan(v) else v
            reached[i] = 0
        for c in range(cuts.shape[0]):
            cut = cuts[c]
            for i in range(n):  # without a branch, many rows at a time: 63 cuts take less than a search among them
                reached[i] += filled[i] >= cut


@njit(nogil=True, cache=True)
def flag_labels(offsets, codes, flags):  # type: ignore[no-untyped-def]
    """Set flags[code, row] for every label of a row; -1 is a label that nobody asks about."""
    for i in range(offsets.shape[0] - 1):
        for p in range(offsets[i], offsets[i + 1]):
            if codes[p] >= 0:
                flags[codes[p], i] = 1


@njit(nogil=True, cache=True)
def walk(answers, question, cut, left, right, leaf):  # type: ignore[no-untyped-def]
    """Write the leaf that each row ends in: an answer of at most cut[node] goes left; a leaf asks question -1."""
    for i in range(answers.shape[1]):
        node = 0
        while question[node] >= 0:
            node = left[node] if answers[question[node], i] <= cut[node] else right[node]
        leaf[i] = node


@njit(nogil=True, cache=True)
def apply_rules(answers, labels, first_rule, first_range, question, low, high, rules, clusters):  # type: ignore[no-untyped-def]
    """Count people whom rules match.

    Cluster c has the rules first_rule[c] ... first_rule[c + 1], rule r the ranges first_range[r] ... [r + 1];
    all answers must lie in [low, high]. rules[r] and clusters[c] (any rule of c) grow by (matched, matched rightly).
    """
    matched = np.empty(ROWS_PER_TILE, np.uint8)
    united = np.empty(ROWS_PER_TILE, np.uint8)
    member = np.empty(ROWS_PER_TILE, np.uint8)
    for start in range(0, answers.shape[1], ROWS_PER_TILE):
        n = min(ROWS_PER_TILE, answers.shape[1] - start)
        for c in range(first_rule.shape[0] - 1):
            for i in range(n):
                member[i] = labels[start + i] == c
                united[i] = 0
            for r in range(first_rule[c], first_rule[c + 1]):
                matched[:] = 1
                for g in range(first_range[r], first_range[r + 1]):
                    line, least, most = answers[question[g]], np.uint8(low[g]), np.uint8(high[g])
                    for i in range(n):  # bytes, without a branch: the compiler makes 32 or 64 of them one step
                        matched[i] &= (line[start + i] >= least) & (line[start + i] <= most)
                count, right = 0, 0
                for i in range(n):
                    count += matched[i]
                    right += matched[i] & member[i]
                    united[i] |= matched[i]
                rules[r, 0] += count
                rules[r, 1] += right
            for i in range(n):
                clusters[c, 0] += united[i]
                clusters[c, 1] += united[i] & member[i]

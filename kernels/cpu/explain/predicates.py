"""Code a block's texts and labels, answer questions from codes, and apply rules and trees to the answers.

    codes of texts, of labels                 -> codes (n_rows,) uint8; bits (n_lines, n_rows) uint8
    codes (n_lines, n_rows), a table each     -> answers (n_questions, n_rows) uint8
    answers (n_questions, n_rows), a tree     -> leaf of every row
    answers, rules as ranges, labels          -> people matched, and matched rightly, a rule and a cluster

Answers lie one question after the other, so a rule touches only the lines it asks about. What the questions mean is
not here: engine/explain/binning/binner.py. Numbers are coded in bucketize.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

ROWS_PER_TILE = 2048  # rows whose marks and values stay in L1; 1M rows x 17 rules of 41 conditions: 13 ms


@njit(nogil=True, cache=True)
def look_up(codes, table, out):  # type: ignore[no-untyped-def]
    """Write table[code + 1]: what stands at 0 is for code -1, none."""
    for i in range(codes.shape[0]):
        out[i] = table[codes[i] + 1]


@njit(nogil=True, cache=True)
def mark_labels(offsets, codes, bit_of, missing, missing_bit, out):  # type: ignore[no-untyped-def]
    """Set bit_of[code] of a row for every label it has; code -1 is none, bit -1 one that nobody asks about.

    Bit b is bit b % 8 of out[b // 8]. A missing list sets `missing_bit`, if that is not -1.
    """
    out[:] = 0
    for i in range(missing.shape[0]):
        for p in range(offsets[i], offsets[i + 1]):
            bit = bit_of[codes[p]] if codes[p] >= 0 else -1
            if bit >= 0:
                out[bit >> 3, i] |= np.uint8(1 << (bit & 7))
        if missing[i] and missing_bit >= 0:
            out[missing_bit >> 3, i] |= np.uint8(1 << (missing_bit & 7))


@njit(nogil=True, cache=True)
def answer(codes, lines, tables, out):  # type: ignore[no-untyped-def]
    """Write the answers to questions: tables[q, code] of the code in line lines[q]."""
    for q in range(lines.shape[0]):
        line, table, answers = codes[lines[q]], tables[q], out[q]
        for i in range(line.shape[0]):
            answers[i] = table[line[i]]


@njit(nogil=True, cache=True)
def leaves(answers, question, cut, parent, depth, leaf):  # type: ignore[no-untyped-def]
    """Write the leaf that each row ends in: an answer of at most cut[node] goes left; a leaf asks question -1.

    Nodes come depth first, left before right, so a node's people are those of its parent who gave its answer, and the
    parent's are still at hand. All rows visit all nodes, as bytes without a branch: 1M rows x 72 leaves take 12 ms,
    walking each row from the root 57.
    """
    masks = np.empty((depth.max() + 1, ROWS_PER_TILE), np.uint8)
    for start in range(0, answers.shape[1], ROWS_PER_TILE):
        n = min(ROWS_PER_TILE, answers.shape[1] - start)
        ends = leaf[start : start + n]
        masks[0, :] = 1
        for node in range(question.shape[0]):
            mine = masks[depth[node]]
            if node > 0:
                above, most = masks[depth[node] - 1], np.uint8(cut[parent[node]])
                given = answers[question[parent[node]], start : start + n]
                if node == parent[node] + 1:
                    for i in range(n):
                        mine[i] = above[i] & (given[i] <= most)
                else:
                    for i in range(n):
                        mine[i] = above[i] & (given[i] > most)
            if question[node] < 0:
                for i in range(n):
                    ends[i] = node if mine[i] else ends[i]


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
        label = labels[start : start + n]
        for c in range(first_rule.shape[0] - 1):
            for i in range(n):
                member[i] = label[i] == c
                united[i] = 0
            for r in range(first_rule[c], first_rule[c + 1]):
                matched[:] = 1
                for g in range(first_range[r], first_range[r + 1]):
                    given = answers[question[g], start : start + n]
                    least, width = np.uint8(low[g]), np.uint8(high[g] - low[g])
                    for i in range(n):  # one comparison of bytes that wrap around: 64 of them are one instruction
                        matched[i] &= np.uint8(given[i] - least) <= width
                count, right = 0, 0
                for i in range(n):
                    count += matched[i]
                    right += matched[i] & member[i]
                    united[i] |= matched[i]
                rules[r, 0] += count
                rules[r, 1] += right
            count, right = 0, 0
            for i in range(n):
                count += united[i]
                right += united[i] & member[i]
            clusters[c, 0] += count
            clusters[c, 1] += right


@njit(nogil=True, cache=True)
def tally(answers, rows, labels, weights, counts):  # type: ignore[no-untyped-def]
    """Add the weights of some rows to counts[question, label, answer]."""
    for q in range(answers.shape[0]):
        given, of_question = answers[q], counts[q]
        for r in range(rows.shape[0]):
            i = rows[r]
            of_question[labels[i], given[i]] += weights[i]


@njit(nogil=True, cache=True)
def count_pairs(leaf, labels, counts):  # type: ignore[no-untyped-def]
    """Add the rows to counts[leaf, label]."""
    for i in range(leaf.shape[0]):
        counts[leaf[i], labels[i]] += 1

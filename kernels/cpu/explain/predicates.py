"""Bin categories and labels, evaluate predicates on binned rows, and apply trees and rules to their values.

    codes of categories, of labels            -> bins (n_rows,) uint8; bits (n_lines, n_rows) uint8
    bins (n_lines, n_rows), a table each      -> values (n_predicates, n_rows) uint8
    values (n_predicates, n_rows), a tree     -> leaf of every row
    values, rules as terms, labels            -> rows matched, and matched correctly, per rule and per cluster

The value of a predicate is a small integer; for yes or no, 1 or 0. Values are stored one predicate after the other, so
a rule reads only the lines of its own predicates. What predicates mean is not here: engine/explain/binning/binner.py.
Numbers are binned in bucketize.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

ROWS_PER_TILE = 2048  # rows whose masks and values stay in L1; 1M rows x 17 rules of 41 conditions: 13 ms


@njit(nogil=True, cache=True)
def map_codes(codes, table, out):  # type: ignore[no-untyped-def]
    """Write table[code + 1] of every code; code -1 means missing and maps to table[0]."""
    for i in range(codes.shape[0]):
        out[i] = table[codes[i] + 1]


@njit(nogil=True, cache=True)
def set_label_bits(offsets, codes, bit_of, missing, missing_bit, out):  # type: ignore[no-untyped-def]
    """Set bit bit_of[code] of a row for every label in its list; code -1 is a missing label, bit -1 is not set.

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
def evaluate_predicates(bins, lines, tables, out):  # type: ignore[no-untyped-def]
    """Write the values of predicates: tables[q, bin] for the bins in line lines[q]."""
    for q in range(lines.shape[0]):
        line, table, values = bins[lines[q]], tables[q], out[q]
        for i in range(line.shape[0]):
            values[i] = table[line[i]]


@njit(nogil=True, cache=True)
def find_leaves(values, predicate, threshold, parent, depth, leaf):  # type: ignore[no-untyped-def]
    """Write the leaf of each row: a value of at most threshold[node] goes left; a leaf has predicate -1.

    Nodes come depth first, left before right, so the mask of a node's rows is that of its parent, which is still in
    cache, and one comparison. All rows visit all nodes, as bytes without a branch: 1M rows x 72 leaves take 12 ms;
    walking each row from the root takes 57 ms.
    """
    masks = np.empty((depth.max() + 1, ROWS_PER_TILE), np.uint8)
    for start in range(0, values.shape[1], ROWS_PER_TILE):
        n = min(ROWS_PER_TILE, values.shape[1] - start)
        tile_leaf = leaf[start : start + n]
        masks[0, :] = 1
        for node in range(predicate.shape[0]):
            mask = masks[depth[node]]
            if node > 0:
                parent_mask, limit = masks[depth[node] - 1], np.uint8(threshold[parent[node]])
                tile_values = values[predicate[parent[node]], start : start + n]
                if node == parent[node] + 1:
                    for i in range(n):
                        mask[i] = parent_mask[i] & (tile_values[i] <= limit)
                else:
                    for i in range(n):
                        mask[i] = parent_mask[i] & (tile_values[i] > limit)
            if predicate[node] < 0:
                for i in range(n):
                    tile_leaf[i] = node if mask[i] else tile_leaf[i]


@njit(nogil=True, cache=True)
def count_rule_matches(values, labels, first_rule, first_term, predicate, low, high, points, needed, rules, clusters):  # type: ignore[no-untyped-def]
    """Count the rows that rules match, and those of them that are in the rule's cluster.

    Cluster c has the rules first_rule[c] ... first_rule[c + 1], rule r the terms first_term[r] ... [r + 1]. A term
    gives its points if its predicate's value is in [low, high]; a rule matches from needed[r] points on. rules[r] and
    clusters[c] (any rule of c) grow by (matched, matched correctly).
    """
    total = np.empty(ROWS_PER_TILE, np.uint8)  # points: a rule has at most 255
    matched = np.empty(ROWS_PER_TILE, np.uint8)
    matched_any = np.empty(ROWS_PER_TILE, np.uint8)
    member = np.empty(ROWS_PER_TILE, np.uint8)
    for start in range(0, values.shape[1], ROWS_PER_TILE):
        n = min(ROWS_PER_TILE, values.shape[1] - start)
        label = labels[start : start + n]
        for c in range(first_rule.shape[0] - 1):
            for i in range(n):
                member[i] = label[i] == c
                matched_any[i] = 0
            for r in range(first_rule[c], first_rule[c + 1]):
                total[:] = 0
                for g in range(first_term[r], first_term[r + 1]):
                    tile_values = values[predicate[g], start : start + n]
                    least, width, gain = np.uint8(low[g]), np.uint8(high[g] - low[g]), np.uint8(points[g])
                    # One comparison of bytes that wrap around: 64 of them are one instruction.
                    for i in range(n):
                        total[i] += gain if np.uint8(tile_values[i] - least) <= width else np.uint8(0)
                count, correct, enough = 0, 0, np.uint8(needed[r])
                for i in range(n):
                    matched[i] = total[i] >= enough
                    count += matched[i]
                    correct += matched[i] & member[i]
                    matched_any[i] |= matched[i]
                rules[r, 0] += count
                rules[r, 1] += correct
            count, correct = 0, 0
            for i in range(n):
                count += matched_any[i]
                correct += matched_any[i] & member[i]
            clusters[c, 0] += count
            clusters[c, 1] += correct


@njit(nogil=True, cache=True)
def accumulate_histograms(values, rows, labels, weights, histograms):  # type: ignore[no-untyped-def]
    """Add the weights of the given rows to histograms[predicate, label, value]."""
    for q in range(values.shape[0]):
        line, histogram = values[q], histograms[q]
        for r in range(rows.shape[0]):
            i = rows[r]
            histogram[labels[i], line[i]] += weights[i]


@njit(nogil=True, cache=True)
def count_leaf_labels(leaf, labels, counts):  # type: ignore[no-untyped-def]
    """Count the rows of every leaf and label: add them to the contingency table counts[leaf, label]."""
    for i in range(leaf.shape[0]):
        counts[leaf[i], labels[i]] += 1

"""Search the points of a score's conditions, and the condition that is worth most beside others.

    people of each pattern of conditions that rows fulfil  ->  the best points, the points needed, and their worth
    people by predicate, points of the others, and cell    ->  the best range of a predicate beside the others

With nine conditions of 0 to 3 points, these are 262,144 ways, each with up to 27 numbers of points needed. So both
searches first ask, by products alone, whether a candidate can be worth more than the best one so far; only then is its
worth computed, with a division and a root. 150 patterns of nine conditions take 7 ms; computing every worth, 25 ms.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from engine.kernels.cpu.jit_options import INNER

GROUPED_TERMS = 4  # people are counted by these terms, and shared by all points of them
SLACK = 1e-9  # of a precision, by which no candidate is left out: far more than what sums are rounded by
LEAST_GAIN = 1e-9  # by which a candidate has to be worth more than the best one so far


@njit(**INNER)
def worth_of(members, others, size, row, least_precision, n_errors):  # type: ignore[no-untyped-def]
    """Return the coverage of these people, or a shortfall below 0 where they are not precise enough.

    `row` is the number of people that a row stands for: a row of errors is added, so that few rows need proof, and the
    precision has to be reached `n_errors` standard errors below what is seen.
    """
    people = members + others + row
    precision = members / people
    least = precision - n_errors * math.sqrt(precision * (1.0 - precision) * row / people)
    return members / size if least >= least_precision else least - least_precision - 1.0


@njit(**INNER, forceinline=True)
def _bounds_of_better(best, price, size, least_precision):  # type: ignore[no-untyped-def]
    """Return the people and the precision, less its errors, that a worth above `best` needs at least."""
    least_members = (best + price) * size * (1.0 - SLACK) if best >= 0.0 else -1.0
    return least_members, min(least_precision, best + price + least_precision + 1.0) - SLACK


@njit(nogil=True, cache=True, error_model="numpy")
def best_points(patterns, members, others, n_terms, max_points, row, least_precision, n_errors, cost, cost_of_points):  # type: ignore[no-untyped-def]
    """Return the points (n_terms,) that are worth most, the points needed, and their worth less their cost.

    `patterns` has a bit for each term. A term costs `cost` unless it has 0 points, and any points above 1
    `cost_of_points`. Of equal ways the first counts, the first term's points changing fastest.
    """
    size, n_levels = members.sum(), n_terms * max_points + 1
    points, best = np.zeros(n_terms, np.int64), np.zeros(n_terms, np.int64)
    score = np.zeros(patterns.shape[0], np.int64)
    # People with at least so many points, by which of the first terms hold: [group, side and level], and for either
    # side `max_points` levels below 0 first, where all people have as many.
    width = max_points + n_levels
    of_four, of_three = np.zeros((16, 2 * width)), np.zeros((8, 2 * width))
    of_two, of_one = np.zeros((4, 2 * width)), np.zeros((2, 2 * width))
    most = np.zeros(GROUPED_TERMS, np.int64)
    most[:n_terms] = max_points
    best_needed, best_worth, n_errors_row = 0, -np.inf, n_errors * n_errors * row * (1.0 - SLACK)
    while True:
        _count_tails(patterns, members, others, score, max_points, of_four)
        n_used_later, total_later, unequal_later = 0, 0, False
        for t in range(GROUPED_TERMS, n_terms):
            n_used_later += points[t] > 0
            total_later += points[t]
            unequal_later |= points[t] > 1
        for p3 in range(most[3] + 1):
            _give_points(of_four, p3, max_points, of_three)
            for p2 in range(most[2] + 1):
                _give_points(of_three, p2, max_points, of_two)
                for p1 in range(most[1] + 1):
                    _give_points(of_two, p1, max_points, of_one)
                    for p0 in range(most[0] + 1):
                        total = total_later + p0 + p1 + p2 + p3
                        n_used = n_used_later + (p0 > 0) + (p1 > 0) + (p2 > 0) + (p3 > 0)
                        unequal = unequal_later or p0 > 1 or p1 > 1 or p2 > 1 or p3 > 1
                        price = cost * n_used + cost_of_points * unequal
                        bounds = _bounds_of_better(best_worth, price, size, least_precision)
                        if not _may_be_better(of_one, p0, max_points, total, row, n_errors_row, bounds):
                            continue
                        for needed in range(total, 0, -1):
                            at, shifted = max_points + needed, max_points + needed - p0
                            inside = of_one[0, at] + of_one[1, shifted]
                            outside = of_one[0, width + at] + of_one[1, width + shifted]
                            worth = worth_of(inside, outside, size, row, least_precision, n_errors) - price
                            if worth > best_worth + LEAST_GAIN:
                                best_worth, best_needed = worth, needed
                                best[:] = points
                                for t, given in enumerate((p0, p1, p2, p3)):
                                    if t < n_terms:
                                        best[t] = given
        term = GROUPED_TERMS
        while term < n_terms and points[term] == max_points:  # count up, the first of the later terms fastest
            points[term] = 0
            for i in range(patterns.shape[0]):
                score[i] -= max_points * ((patterns[i] >> term) & 1)
            term += 1
        if term >= n_terms:
            return best, best_needed, best_worth
        points[term] += 1
        for i in range(patterns.shape[0]):
            score[i] += (patterns[i] >> term) & 1


@njit(**INNER)
def _count_tails(patterns, members, others, score, offset, of_four):  # type: ignore[no-untyped-def]
    """Write the people with at least so many points, by which of the first four terms hold."""
    of_four[:] = 0.0
    width = of_four.shape[1] // 2
    for i in range(patterns.shape[0]):
        group, level = patterns[i] & 15, offset + score[i]
        of_four[group, level] += members[i]
        of_four[group, width + level] += others[i]
    for group in range(16):
        for first in (0, width):
            for level in range(first + width - 2, first - 1, -1):
                of_four[group, level] += of_four[group, level + 1]


@njit(**INNER)
def _give_points(of_groups, points, offset, of_half):  # type: ignore[no-untyped-def]
    """Write the tails of groups by all terms but the last, whose points are added: a tail moves up by them."""
    n_groups, width = of_half.shape[0], of_half.shape[1] // 2
    for group in range(n_groups):
        out, without = of_half[group, offset:], of_groups[group, offset:]
        with_points = of_groups[n_groups + group, offset - points :]
        for level in range(out.shape[0]):  # both sides at once, and what is below 0 again
            out[level] = without[level] + with_points[level]
        for level in range(offset):
            of_half[group, level] = of_half[group, offset]
            of_half[group, width + level] = of_half[group, width + offset]


@njit(**INNER)
def _may_be_better(of_one, points, offset, total, row, n_errors_row, bounds):  # type: ignore[no-untyped-def]
    """Return whether any number of points needed, up to `total`, may be worth more than the best way so far.

    a / people - n_errors sqrt(a (people - a) row / people^3) >= t, without a division or a root.
    """
    least_members, least = bounds
    first = of_one.shape[1] // 2 + offset  # of the other side
    in_without, in_with = of_one[0, offset:], of_one[1, offset - points :]
    out_without, out_with = of_one[0, first:], of_one[1, first - points :]
    n_better = 0
    for needed in range(1, total + 1):
        inside = in_without[needed] + in_with[needed]
        people = inside + (out_without[needed] + out_with[needed]) + row
        above = inside - least * people
        is_precise = (above >= 0.0) & (above * above * people >= n_errors_row * inside * (people - inside))
        n_better += (inside > least_members) & is_precise
    return n_better > 0


@njit(nogil=True, cache=True, error_model="numpy")
def best_range_beside(  # type: ignore[no-untyped-def]
    histograms, n_cells, tails, max_points, size, row, least_precision, n_errors, worth_before: Any
):
    """Return the range that is worth most beside the points of other terms: worth, predicate, low, high and points.

    histograms[predicate, 2 level + side, cell] has the people with `level` points, in the cluster (side 1) or not,
    tails[level, side] those with at least so many. The range of all cells is none. The predicate is -1 where no range
    is worth more than `worth_before`.
    """
    n_levels = tails.shape[0] - 1
    best = (worth_before, -1, 0, 0, 0)
    below = np.zeros((n_levels + 1, 2))  # people in the range who have fewer points
    sums = np.zeros((2 * n_levels, histograms.shape[2] + 1))
    found, ends = np.zeros(max_points + 1), np.zeros((max_points + 1, 2), np.int64)
    for line in range(histograms.shape[0]):
        for k in range(2 * n_levels):
            for cell in range(n_cells[line]):
                sums[k, cell + 1] = sums[k, cell] + histograms[line, k, cell]
        found[:] = -np.inf
        for low in range(n_cells[line]):
            for high in range(low, n_cells[line]):
                if low == 0 and high == n_cells[line] - 1:
                    continue
                for level in range(n_levels):
                    for side in range(2):
                        people = sums[2 * level + side, high + 1] - sums[2 * level + side, low]
                        below[level + 1, side] = below[level, side] + people
                for extra in range(1, max_points + 1):
                    worth = _best_needed(
                        below, tails, extra, size, row, least_precision, n_errors, max(found[extra], best[0])
                    )
                    if worth > found[extra]:
                        found[extra], ends[extra, 0], ends[extra, 1] = worth, low, high
        for extra in range(1, max_points + 1):
            if found[extra] > best[0] + LEAST_GAIN:
                best = (found[extra], line, ends[extra, 0], ends[extra, 1], extra)
    return best


@njit(**INNER)
def _best_needed(below, tails, extra, size, row, least_precision, n_errors, worth_before):  # type: ignore[no-untyped-def]
    """Return the worth of a range that gives `extra` points, with the best number of points needed.

    Of people in the range, those match who have all but `extra` of the points needed. Minus infinity where no number is
    worth more than `worth_before`.
    """
    n_levels, best = tails.shape[0] - 1, -np.inf
    least_members, least = _bounds_of_better(worth_before, 0.0, size, least_precision)
    for needed in range(1, n_levels + extra):
        top, bottom = min(needed, n_levels), max(needed - extra, 0)
        inside = tails[top, 1] + below[top, 1] - below[bottom, 1]
        outside = tails[top, 0] + below[top, 0] - below[bottom, 0]
        if inside > least_members and inside >= least * (inside + outside + row):
            worth = worth_of(inside, outside, size, row, least_precision, n_errors)
            if worth > max(best, worth_before):
                best = worth
    return best

"""Try all ways to give a few conditions points, on the patterns of conditions that rows fulfil.

    people of each pattern, in the cluster and not  ->  the best points, the points needed, and what they are worth

With eight conditions of 0 to 3 points, these are 65,536 ways on at most 256 patterns.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def worth_of(members, others, size, row, least_precision, n_errors):  # type: ignore[no-untyped-def]
    """Return the coverage of these people, or a shortfall below 0 where they are not precise enough.

    `row` is the number of people that a row stands for: a row of errors is added, so that few rows need proof, and the
    precision has to be reached `n_errors` standard errors below what is seen.
    """
    people = members + others + row
    precision = members / people
    least = precision - n_errors * math.sqrt(precision * (1.0 - precision) * row / people)
    return members / size if least >= least_precision else least - least_precision - 1.0


@njit(nogil=True, cache=True)
def best_points(patterns, members, others, n_terms, max_points, row, least_precision, n_errors, cost, cost_of_points):  # type: ignore[no-untyped-def]
    """Return the points (n_terms,) that are worth most, the points needed, and their worth less their cost.

    `patterns` has a bit for each term. A term costs `cost` unless it has 0 points, and any points above 1
    `cost_of_points`. People are counted by the points of all terms but the first two, once for all points of these.
    """
    size = members.sum()
    n, n_levels = patterns.shape[0], n_terms * max_points + 1
    points, best = np.zeros(n_terms, np.int64), np.zeros(n_terms, np.int64)
    score = np.zeros(n, np.int64)
    by_first_two = np.zeros((4, 2, n_levels))  # people by whether the first two terms hold, in the cluster or not
    by_first = np.zeros((2, 2, n_levels))  # the same by the first term, with the points of the second
    best_needed, best_worth = 0, -np.inf
    second_points = max_points if n_terms > 1 else 0
    while True:
        by_first_two[:] = 0.0
        for i in range(n):
            by_first_two[patterns[i] & 3, 0, score[i]] += members[i]
            by_first_two[patterns[i] & 3, 1, score[i]] += others[i]
        others_used, others_total, others_unequal = 0, 0, False
        for t in range(2, n_terms):
            others_used += points[t] > 0
            others_total += points[t]
            others_unequal |= points[t] > 1
        for q in range(second_points + 1):
            for side in range(2):
                for level in range(n_levels):
                    for first in range(2):
                        shifted = by_first_two[2 + first, side, level - q] if level >= q else 0.0
                        by_first[first, side, level] = by_first_two[first, side, level] + shifted
            for p in range(max_points + 1):
                total = others_total + p + q
                n_used = others_used + (p > 0) + (q > 0)
                price = cost * n_used + cost_of_points * (others_unequal or p > 1 or q > 1)
                inside, outside = 0.0, 0.0
                for needed in range(total, 0, -1):
                    inside += by_first[0, 0, needed]
                    outside += by_first[0, 1, needed]
                    if needed >= p:
                        inside += by_first[1, 0, needed - p]
                        outside += by_first[1, 1, needed - p]
                    if best_worth >= 0.0 and inside / size - price <= best_worth + 1e-9:
                        continue  # what is not precise is worth less than nothing
                    worth = worth_of(inside, outside, size, row, least_precision, n_errors) - price
                    if worth > best_worth + 1e-9:
                        best_worth, best_needed = worth, needed
                        best[:] = points
                        best[0] = p
                        if n_terms > 1:
                            best[1] = q
        term = 2
        while term < n_terms and points[term] == max_points:  # count up, the third term fastest
            points[term] = 0
            for i in range(n):
                score[i] -= max_points * ((patterns[i] >> term) & 1)
            term += 1
        if term >= n_terms:
            return best, best_needed, best_worth
        points[term] += 1
        for i in range(n):
            score[i] += (patterns[i] >> term) & 1

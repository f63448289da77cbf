"""Try all ways to give a few conditions points, on the patterns of conditions that rows fulfil.

    people of each pattern, in the cluster and not  ->  the best points, the points needed, and what they are worth

With eight conditions of 0 to 3 points, 65,536 ways on at most 256 patterns take about 40 ms.
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
    `cost_of_points`.
    """
    size = members.sum()
    n = patterns.shape[0]
    points, best = np.zeros(n_terms, np.int64), np.zeros(n_terms, np.int64)
    score = np.zeros(n, np.int64)
    n_levels = n_terms * max_points + 1
    level_members, level_others = np.zeros(n_levels), np.zeros(n_levels)
    best_needed, best_worth = 0, -np.inf
    while True:
        term = 0
        while term < n_terms and points[term] == max_points:  # count up, the first term fastest
            points[term] = 0
            for i in range(n):
                score[i] -= max_points * ((patterns[i] >> term) & 1)
            term += 1
        if term == n_terms:
            return best, best_needed, best_worth
        points[term] += 1
        for i in range(n):
            score[i] += (patterns[i] >> term) & 1
        n_used, total, unequal = 0, 0, False
        for t in range(n_terms):
            n_used += points[t] > 0
            total += points[t]
            unequal |= points[t] > 1
        level_members[: total + 1] = 0.0
        level_others[: total + 1] = 0.0
        for i in range(n):
            level_members[score[i]] += members[i]
            level_others[score[i]] += others[i]
        price = cost * n_used + cost_of_points * unequal
        inside, outside = 0.0, 0.0
        for needed in range(total, 0, -1):
            inside += level_members[needed]
            outside += level_others[needed]
            worth = worth_of(inside, outside, size, row, least_precision, n_errors) - price
            if worth > best_worth + 1e-9:
                best_worth, best_needed = worth, needed
                best[:] = points

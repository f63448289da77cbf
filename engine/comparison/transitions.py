"""What became of clusters between two runs, told from how many people went from each old one to each new one.

    moves (n_old, n_new): people who are in both runs  ->  a verdict a cluster, a matching, the adjusted Rand index

A cluster lives on where more than half of its people went, if they are more than half of who is there now. Shares are
of people in both runs: who left or joined says nothing about whether a cluster lives on. Clusters that live on are
matched; the others are matched so that fewest people count as moved (the Hungarian algorithm).

Source: Spiliopoulou, Ntoutsi, Theodoridis & Schult, "MONIC: modeling and monitoring cluster transitions", KDD 2006.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Counts = NDArray[np.int64]
Shares = NDArray[np.float64]
Verdict = Literal["kept", "grown", "shrunk", "split", "merged", "born", "died"]

MOST = 0.5  # a larger share than this of a cluster is most of it
PART = 0.2  # share of a cluster from which people count as one of its parts
RESIZED = 1.2  # times its share of everybody from which a cluster has grown; below 1 / RESIZED it has shrunk
NONE = -1


@dataclass(frozen=True)
class Change:
    """What became of an old cluster, or where a new one comes from.

    Attributes
    ----------
    cluster : int
    verdict : str
        Of an old cluster: kept, grown, shrunk, split (into parts), merged (into another one) or died. Of a new one:
        kept, grown, shrunk, split (off an old one), merged (from several) or born.
    others : tuple of int
        Clusters of the other run that the verdict is about; none if it died or was born.
    """

    cluster: int
    verdict: Verdict
    others: tuple[int, ...] = ()


@dataclass(frozen=True)
class Changes:
    """Verdicts on all clusters of two runs; `matched` (n_old,) is the new cluster of each old one, or NONE."""

    old: tuple[Change, ...]
    new: tuple[Change, ...]
    matched: NDArray[np.int32]


def changes(moves: Counts, old_share: Shares, new_share: Shares) -> Changes:
    """Judge what became of clusters.

    Parameters
    ----------
    moves : int64 array of shape (n_old, n_new)
        People who are in both runs.
    old_share, new_share : float64 arrays of shape (n_old,) and (n_new,)
        Each cluster's share of everybody in its own run, by which it has grown or shrunk.
    """
    went = moves / np.maximum(moves.sum(axis=1, keepdims=True), 1)
    came = moves / np.maximum(moves.sum(axis=0, keepdims=True), 1)
    parts = (came > MOST) & (went >= PART)  # of an old cluster
    sources = (went > MOST) & (came >= PART)  # of a new one
    is_split, is_merged = parts.sum(axis=1) > 1, sources.sum(axis=0) > 1
    lives = (went > MOST) & (came > MOST) & ~is_split[:, None] & ~is_merged

    def sized(old: int, new: int) -> Verdict:
        if new_share[new] >= RESIZED * old_share[old]:
            return "grown"
        return "shrunk" if RESIZED * new_share[new] <= old_share[old] else "kept"

    def of_old(c: int) -> Change:
        if is_split[c]:
            return Change(c, "split", _places(parts[c]))
        if lives[c].any():
            there = int(lives[c].argmax())
            return Change(c, sized(c, there), (there,))
        most = _places(went[c] > MOST)
        return Change(c, "merged", most) if most else Change(c, "died")

    def of_new(c: int) -> Change:
        if is_merged[c]:
            return Change(c, "merged", _places(sources[:, c]))
        if lives[:, c].any():
            before = int(lives[:, c].argmax())
            return Change(c, sized(before, c), (before,))
        most = _places(came[:, c] > MOST)
        return Change(c, "split", most) if most else Change(c, "born")

    n_old, n_new = moves.shape
    return Changes(tuple(map(of_old, range(n_old))), tuple(map(of_new, range(n_new))), _matching(moves, lives))


def _places(of: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(np.flatnonzero(of).tolist())


def _matching(moves: Counts, lives: NDArray[np.bool_]) -> NDArray[np.int32]:
    matched = np.full(len(moves), NONE, np.int32)
    old, new = np.nonzero(lives)
    matched[old] = new
    free_old = np.flatnonzero(~lives.any(axis=1))
    free_new = np.flatnonzero(~lives.any(axis=0))
    rest = moves[np.ix_(free_old, free_new)]
    rows, columns = linear_sum_assignment(rest, maximize=True)
    some = rest[rows, columns] > 0
    matched[free_old[rows[some]]] = free_new[columns[some]]
    return matched

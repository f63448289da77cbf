"""Find the cluster transitions between two runs (MONIC), from the contingency table of their clusters.

    moves (n_old, n_new): people who are in both runs  ->  a verdict for each cluster, a matching of old to new clusters

A cluster survives in the new cluster that more than half of its people went to, if they are more than half of that
cluster. Shares are of the people in both runs: those who left or joined say nothing about whether a cluster survives.
Surviving clusters are matched; the others are matched so that fewest people count as moved (lineage/matching.py).

The verdicts in MONIC's words: kept, grown and shrunk are survival, split is split, merged is absorption, died is
disappearance and born is emergence.

Source: Spiliopoulou, Ntoutsi, Theodoridis & Schult, "MONIC: modeling and monitoring cluster transitions", KDD 2006.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.lineage.matching import UNMATCHED, Counts, match_clusters

Shares = NDArray[np.float64]
Verdict = Literal["kept", "grown", "shrunk", "split", "merged", "born", "died"]

MAJORITY = 0.5  # a survivor or absorber holds a larger share than this
MIN_PART = 0.2  # smallest share of a cluster that counts as a part of a split or merge
RESIZE_RATIO = 1.2  # a cluster has grown if its share of everybody rose by this factor, shrunk if it fell by it


@dataclass(frozen=True)
class ClusterTransition:
    """The transition of one cluster: what became of an old one, or where a new one comes from.

    Attributes
    ----------
    cluster : int
    verdict : str
        Of an old cluster: kept, grown, shrunk, split (into parts), merged (into another one) or died. Of a new one:
        kept, grown, shrunk, split (off an old one), merged (from several) or born.
    others : tuple of int
        Clusters of the other run that it went to or came from; none if it died or was born.
    """

    cluster: int
    verdict: Verdict
    others: tuple[int, ...] = ()


@dataclass(frozen=True)
class ClusterTransitions:
    """Transitions of all clusters of two runs.

    Attributes
    ----------
    old, new : tuples of ClusterTransition
    matched : int32 array of shape (n_old,)
        The new cluster that each old one is matched to, or UNMATCHED.
    """

    old: tuple[ClusterTransition, ...]
    new: tuple[ClusterTransition, ...]
    matched: NDArray[np.int32]


def find_transitions(moves: Counts, old_share: Shares, new_share: Shares) -> ClusterTransitions:
    """Find the transition of every old and new cluster, and match old to new clusters.

    Parameters
    ----------
    moves : int64 array of shape (n_old, n_new)
        People who are in both runs.
    old_share, new_share : float64 arrays of shape (n_old,) and (n_new,)
        Each cluster's share of everybody in its own run, by which it has grown or shrunk.

    Returns
    -------
    ClusterTransitions
    """
    share_of_old = moves / np.maximum(moves.sum(axis=1, keepdims=True), 1)
    share_of_new = moves / np.maximum(moves.sum(axis=0, keepdims=True), 1)
    parts = (share_of_new > MAJORITY) & (share_of_old >= MIN_PART)  # of an old cluster that split
    sources = (share_of_old > MAJORITY) & (share_of_new >= MIN_PART)  # of a new cluster that merged
    is_split, is_merged = parts.sum(axis=1) > 1, sources.sum(axis=0) > 1
    survives = (share_of_old > MAJORITY) & (share_of_new > MAJORITY) & ~is_split[:, None] & ~is_merged

    def size_verdict(old: int, new: int) -> Verdict:
        if new_share[new] >= RESIZE_RATIO * old_share[old]:
            return "grown"
        return "shrunk" if RESIZE_RATIO * new_share[new] <= old_share[old] else "kept"

    def old_transition(c: int) -> ClusterTransition:
        if is_split[c]:
            return ClusterTransition(c, "split", _indices(parts[c]))
        if survives[c].any():
            successor = int(survives[c].argmax())
            return ClusterTransition(c, size_verdict(c, successor), (successor,))
        absorber = _indices(share_of_old[c] > MAJORITY)
        return ClusterTransition(c, "merged", absorber) if absorber else ClusterTransition(c, "died")

    def new_transition(c: int) -> ClusterTransition:
        if is_merged[c]:
            return ClusterTransition(c, "merged", _indices(sources[:, c]))
        if survives[:, c].any():
            predecessor = int(survives[:, c].argmax())
            return ClusterTransition(c, size_verdict(predecessor, c), (predecessor,))
        origin = _indices(share_of_new[:, c] > MAJORITY)
        return ClusterTransition(c, "split", origin) if origin else ClusterTransition(c, "born")

    n_old, n_new = moves.shape
    return ClusterTransitions(
        tuple(map(old_transition, range(n_old))),
        tuple(map(new_transition, range(n_new))),
        _match_rest(moves, survives),
    )


def _indices(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(np.flatnonzero(mask).tolist())


def _match_rest(moves: Counts, survives: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the new cluster of each old one: survivors first, then the others among themselves."""
    matched = np.full(len(moves), UNMATCHED, np.int32)
    old, new = np.nonzero(survives)
    matched[old] = new
    free_old = np.flatnonzero(~survives.any(axis=1))
    free_new = np.flatnonzero(~survives.any(axis=0))
    rest = match_clusters(moves[np.ix_(free_old, free_new)])
    found = rest != UNMATCHED
    matched[free_old[found]] = free_new[rest[found]]
    return matched

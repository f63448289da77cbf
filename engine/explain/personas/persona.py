"""Personas: what the people of each cluster are like, for somebody who has to remember them and talk about them.

    contrasts, sizes  ->  a short name, unique in the run, three sentences, a typical member, and what a room opens with

Everything is about many: no figure has fewer than `min_people` sampled people behind it, a cluster of fewer people
has no portrait, and the typical member is put together from medians and most frequent values, so it is nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from engine.explain.personas.cluster_names import names_of
from engine.explain.personas.effect_sizes import TRIVIAL, Contrast
from engine.explain.personas.sentences import interests, portrait, sentences
from engine.explain.personas.typical_member import typical
from engine.explain.row_sample import Sample
from engine.utils.formatting import capitalised, people

LEAST_SHARE = 0.01  # of everybody that the community persona must have: strange and tiny is not a community
TOLD = 12  # contrasts a persona keeps


@dataclass(frozen=True)
class Persona:
    """A readable description of one cluster.

    Attributes
    ----------
    cluster, size, share : int, int, float
    name : str
        Short, unique in the run.
    sentences : tuple of str
        Three, to be read out: who they are, what they share, what sets them apart. One if there are too few people.
    typical : tuple of (str, str)
        A typical member: what, and its typical value. Composite, no real person.
    interests : tuple of str
        What a room for them would open with.
    contrasts : tuple of Contrast
        The strongest first, one a row of the report's table.
    portrait : tuple of (str, tuple of str)
        Of the community persona only: headings, and what there is to say.
    strength : float
        Root mean square of the standardised differences, a column counting once: 0 is like everybody.
    """

    cluster: int
    size: int
    share: float
    name: str
    sentences: tuple[str, ...]
    typical: tuple[tuple[str, str], ...]
    interests: tuple[str, ...]
    contrasts: tuple[Contrast, ...]
    strength: float
    portrait: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def is_community(self) -> bool:
        """Whether this is the run's community persona."""
        return bool(self.portrait)


def personas(sample: Sample, found: list[list[Contrast]], *, min_people: int) -> list[Persona]:
    """Describe every cluster, in the order of the clusters.

    Parameters
    ----------
    sample : Sample
    found : list of lists of Contrast
        As engine.explain.personas.effect_sizes.contrasts returns them.
    min_people : int
        People behind a figure, at least.
    """
    total = int(sample.sizes.sum())
    sampled = np.bincount(sample.labels, minlength=sample.n_clusters)
    ranked = [_ranked(part, min_people) for part in found]
    shown = [sampled[c] >= min_people for c in range(sample.n_clusters)]
    names = names_of(ranked, shown, sample.sizes)
    strengths = [_strength(part) if shown[c] else 0.0 for c, part in enumerate(found)]
    described = []
    for c, strongest in enumerate(ranked):
        size = int(sample.sizes[c])
        share = size / total
        if not shown[c]:
            empty = "Nobody is in this cluster." if size == 0 else (
                f"{capitalised(people(size))}, too few to portray without portraying persons: "
                f"figures need {min_people}."
            )  # fmt: skip
            described.append(Persona(c, size, share, names[c], (empty,), (), (), (), 0.0))
            continue
        described.append(
            Persona(
                c, size, share, names[c], sentences(strongest, size, share, min_people), typical(found[c], min_people),
                interests(strongest), tuple(strongest[:TOLD]), strengths[c],
            )
        )  # fmt: skip
    return _with_community(described, ranked, min_people)


def _ranked(part: list[Contrast], min_people: int) -> list[Contrast]:
    """Return the contrasts worth telling, strongest first; of those with too few people behind, only what is rare."""
    worth = [
        c for c in part
        if c.n_known >= min_people and c.strength >= TRIVIAL and (c.n_people >= min_people or c.difference < 0)
    ]  # fmt: skip
    # Of "is F" and "is not M" the first is said.
    return sorted(worth, key=lambda c: -c.strength * (0.75 if c.is_share and c.difference < 0 else 1.0))


def _strength(part: list[Contrast]) -> float:
    """Return the root mean square difference: per column of the table the largest of its contrasts' strengths."""
    best: dict[str, float] = {}
    for contrast in part:
        best[contrast.about.column] = max(best.get(contrast.about.column, 0.0), contrast.strength)
    return float(np.sqrt(np.mean(np.square(list(best.values()))))) if best else 0.0


def _with_community(described: list[Persona], ranked: list[list[Contrast]], min_people: int) -> list[Persona]:
    """Give the persona with the strongest differences its portrait; with a single cluster there is none."""
    able = [p for p in described if p.contrasts and p.share >= LEAST_SHARE]
    if len(described) < 2 or not able:
        return described
    chosen = max(able, key=lambda p: p.strength)
    fuller = replace(chosen, portrait=portrait(ranked[chosen.cluster], chosen.interests, min_people))
    return [fuller if p is chosen else p for p in described]

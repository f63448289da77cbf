"""Build personas: descriptions of the people of each cluster that are easy to remember and to talk about.

    effect sizes, cluster sizes  ->  a short unique name, sentences, a typical member, and interests

No figure has fewer than `min_people` sampled people behind it, a cluster of fewer people is not described, and the
typical member is composed of medians and most frequent values, so it is no real person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np

from engine.explain.personas.cluster_names import name_clusters
from engine.explain.personas.effect_sizes import NEGLIGIBLE_EFFECT, EffectSize
from engine.explain.personas.profile import ProfileRow, build_profile
from engine.explain.personas.related_columns import series_name
from engine.explain.personas.sentences import find_interests, write_portrait, write_sentences
from engine.explain.personas.typical_member import typical_member
from engine.explain.row_sample import RowSample
from engine.kmeans.stability import Sureness
from engine.utils.domain_words import DEFAULT_WORDS, DomainWords
from engine.utils.formatting import capitalize_first

MIN_COMMUNITY_SHARE = 0.01  # of everybody, for the community persona: a tiny unusual cluster is no community
MAX_EFFECT_SIZES = 12  # of a persona


@dataclass(frozen=True)
class Persona:
    """A readable description of one cluster.

    Attributes
    ----------
    cluster, size, share : int, int, float
    name : str
        Short, unique in the run.
    sentences : tuple of str
        Up to three, to be read aloud: who they are, what they share, what sets them apart. One if there are too few
        people.
    typical : tuple of (str, str)
        A typical member: columns and their typical values. It is composed, no real person.
    interests : tuple of str
        Topics that a room for them would open with.
    effect_sizes : tuple of EffectSize
        The strongest first; the rows of the report's table.
    profile : tuple of ProfileRow
        At most eight traits, the strongest first; columns that say nearly the same share one.
    portrait : tuple of (str, tuple of str)
        Headings and their lines; of the community persona only.
    stability : str or None
        How sure the cluster is, in a sentence.
    strength : float
        Root mean square of the standardized differences, with the largest of each column: 0 is like everybody.
    automatic_name : str or None
        If people gave the name: what the engine would have called the cluster.
    is_described : bool
        Whether enough people were sampled to describe the cluster.
    """

    cluster: int
    size: int
    share: float
    name: str
    sentences: tuple[str, ...]
    typical: tuple[tuple[str, str], ...]
    interests: tuple[str, ...]
    effect_sizes: tuple[EffectSize, ...]
    strength: float
    profile: tuple[ProfileRow, ...] = ()
    portrait: tuple[tuple[str, tuple[str, ...]], ...] = ()
    stability: str | None = None
    automatic_name: str | None = None
    is_described: bool = True

    @property
    def is_community(self) -> bool:
        """Whether this is the run's community persona."""
        return bool(self.portrait)


def build_personas(
    sample: RowSample,
    effect_sizes: list[list[EffectSize]],
    stability: Sequence[Sureness] | None = None,
    *,
    min_people: int,
    related: Mapping[str, frozenset[str]] | None = None,
    names: Mapping[str, str] | None = None,
    earlier_names: Sequence[str | None] = (),
    given_names: Sequence[str | None] = (),
    descriptions: Sequence[str | None] = (),
    words: DomainWords = DEFAULT_WORDS,
) -> list[Persona]:
    """Build the persona of every cluster, in the order of the clusters.

    Parameters
    ----------
    sample : RowSample
    effect_sizes : list of lists of EffectSize, one per cluster
        As compute_effect_sizes returns them.
    stability : sequence of Sureness, one per cluster, optional
        How sure each cluster is.
    min_people : int
        Smallest number of sampled people behind a figure.
    related : mapping of column to columns, optional
        Columns that say nearly the same, as find_related_columns returns them.
    names : mapping of column to its name in words, optional
        Needed with `related`.
    earlier_names, given_names : sequences of str or None, one per cluster, optional
        Names that stay while they fit, and names that people gave.
    descriptions : sequence of str or None, one per cluster, optional
        What the engine called the clusters that people named: that stays while it fits, too.
    words : DomainWords, optional
        What the rows are called.

    Returns
    -------
    list of Persona
    """
    total = int(sample.sizes.sum())
    n_sampled = np.bincount(sample.labels, minlength=sample.n_clusters)
    ranked = [_rank(of_cluster, min_people) for of_cluster in effect_sizes]
    told_once = [_one_of_each_series(strongest, related or {}) for strongest in ranked]
    shown = [n_sampled[c] >= min_people for c in range(sample.n_clusters)]
    cluster_names = name_clusters(ranked, shown, sample.sizes, earlier_names, given_names, words)
    strengths = [_root_mean_square(of_cluster) if shown[c] else 0.0 for c, of_cluster in enumerate(effect_sizes)]
    personas = []
    for c, strongest in enumerate(ranked):
        size = int(sample.sizes[c])
        share = size / total
        if not shown[c]:
            note = f"{capitalize_first(words.nobody)} is in this cluster." if size == 0 else (
                f"{capitalize_first(words.count(size))}, too few to describe without describing single {words.plural}: "
                f"figures need {min_people}."
            )  # fmt: skip
            personas.append(Persona(c, size, share, cluster_names[c], (note,), (), (), (), 0.0, is_described=False))
            continue
        told = told_once[c]
        by_strength = sorted(effect_sizes[c], key=lambda e: -e.strength)
        personas.append(
            Persona(
                c, size, share, cluster_names[c], write_sentences(told, size, share, min_people, words),
                typical_member(_one_of_each_series(by_strength, related or {}), min_people),
                find_interests(strongest), tuple(strongest[:MAX_EFFECT_SIZES]), strengths[c],
                build_profile(strongest, related or {}, names or {}, min_people, words),
            )
        )  # fmt: skip
    if any(name is not None for name in given_names):
        names_before = [known or name for known, name in zip(descriptions, earlier_names, strict=False)]
        automatic = name_clusters(ranked, shown, sample.sizes, names_before or earlier_names, (), words)
        given = [name is not None for name in given_names]
        personas = [replace(p, automatic_name=automatic[c] if given[c] else None) for c, p in enumerate(personas)]
    if stability is not None:
        personas = [replace(p, stability=sure.words) for p, sure in zip(personas, stability, strict=True)]
    stable = {p.cluster for p in personas if stability is None or stability[p.cluster].is_stable}
    return _add_community_portrait(personas, stable, told_once, min_people, words)


def _rank(effect_sizes: list[EffectSize], min_people: int) -> list[EffectSize]:
    """Return the effect sizes worth mentioning, strongest first; with few people behind them, only of rare shares."""
    ranked = [
        e for e in effect_sizes
        if e.n_known >= min_people and e.strength >= NEGLIGIBLE_EFFECT
        and (e.n_people >= min_people or e.difference < 0)
    ]  # fmt: skip
    # The factor prefers "is F" to "is not M".
    return sorted(ranked, key=lambda e: -e.strength * (0.75 if e.is_share and e.difference < 0 else 1.0))


def _one_of_each_series(effect_sizes: list[EffectSize], related: Mapping[str, frozenset[str]]) -> list[EffectSize]:
    """Return effect sizes with one number of each series, such as data_gb_m1 to data_gb_m6: the first."""
    told: list[EffectSize] = []
    columns: dict[str, set[str]] = {}
    for effect_size in effect_sizes:
        column = effect_size.feature.column
        of_series = columns.setdefault(series_name(column), set())
        if not effect_size.is_share and column not in of_series and of_series & related.get(column, frozenset()):
            continue
        of_series.add(column)
        told.append(effect_size)
    return told


def _root_mean_square(effect_sizes: list[EffectSize]) -> float:
    """Return the root mean square of the largest strength of each column of the table."""
    best: dict[str, float] = {}
    for effect_size in effect_sizes:
        column = effect_size.feature.column
        best[column] = max(best.get(column, 0.0), effect_size.strength)
    return float(np.sqrt(np.mean(np.square(list(best.values()))))) if best else 0.0


def _add_community_portrait(
    personas: list[Persona], stable: Set[int], told: list[list[EffectSize]], min_people: int, words: DomainWords
) -> list[Persona]:
    """Add a portrait to the persona with the strongest differences, unless there is a single cluster.

    It is that of a stable cluster, if there is one.
    """
    candidates = [p for p in personas if p.effect_sizes and p.share >= MIN_COMMUNITY_SHARE]
    candidates = [p for p in candidates if p.cluster in stable] or candidates
    if len(personas) < 2 or not candidates:
        return personas
    community = max(candidates, key=lambda p: p.strength)
    portrait = write_portrait(told[community.cluster], community.interests, min_people, words)
    return [replace(p, portrait=portrait) if p is community else p for p in personas]

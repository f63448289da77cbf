"""Profile of a cluster: at most eight traits that set it apart, each as a row of a label, its value and everybody's.

effect sizes of a cluster, strongest first  ->  rows; columns that say nearly the same share one
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from engine.explain.personas.effect_sizes import EffectSize
from engine.explain.personas.phrases import UNINFORMATIVE, feature_title, format_value
from engine.utils.domain_words import DomainWords

MAX_ROWS = 8
ENOUGH_ROWS = 3  # with so many, traits are left out whose value is in words the same as everybody's
MAX_LABELS = 3  # rows of a column of several answers


@dataclass(frozen=True)
class ProfileRow:
    """One trait of a cluster.

    Attributes
    ----------
    what, short : str
        The feature, and in fewer words: a value without its column, where it says enough.
    columns : tuple of str
        The columns behind it: more than one if they say nearly the same.
    here, everybody : str
        The typical value or share, in units.
    position, everybody_position : float
        Where they lie among everybody, in [0, 1]: see EffectSize.position.
    difference : float
        The standardized difference.
    """

    what: str
    short: str
    columns: tuple[str, ...]
    here: str
    everybody: str
    position: float
    everybody_position: float
    difference: float


def build_profile(
    strongest: list[EffectSize],
    related: Mapping[str, frozenset[str]],
    names: Mapping[str, str],
    min_people: int,
    words: DomainWords,
) -> tuple[ProfileRow, ...]:
    """Return the profile of a cluster, its strongest traits first.

    Parameters
    ----------
    strongest : list of EffectSize
        Those worth mentioning, the strongest first.
    related : mapping of column to columns
        As find_related_columns returns it.
    names : mapping of column to its name in words
    min_people : int
        Smallest number of sampled people behind a figure.
    words : DomainWords
        What the rows are called.
    """
    rows: list[ProfileRow] = []
    n_rows: dict[str, int] = {}
    for effect_size in sorted(strongest, key=_looks_the_same):
        if _looks_the_same(effect_size) and len(rows) >= ENOUGH_ROWS:
            break
        feature = effect_size.feature
        column, is_number = feature.column, not effect_size.is_share
        home = next((r for r, row in enumerate(rows) if is_number and column in related.get(row.columns[0], ())), None)
        if home is not None:
            rows[home] = replace(rows[home], columns=(*rows[home].columns, column))
            continue
        if len(rows) == MAX_ROWS or n_rows.get(column, 0) >= (MAX_LABELS if feature.kind == "label" else 1):
            continue
        n_rows[column] = n_rows.get(column, 0) + 1
        too_few = effect_size.is_share and effect_size.n_people < min_people
        rows.append(
            ProfileRow(
                feature_title(effect_size), _short_title(effect_size), (column,),
                words.hardly_anybody if too_few else format_value(effect_size, effect_size.cluster_value),
                format_value(effect_size, effect_size.overall_value),
                0.0 if too_few else effect_size.position, effect_size.overall_position,
                effect_size.disclosed_difference(min_people),
            )
        )  # fmt: skip
    return tuple(row if len(row.columns) == 1 else _name_together(row, names) for row in rows)


def _looks_the_same(effect_size: EffectSize) -> bool:
    """Return whether the typical value of the cluster is, as it is shown, that of everybody."""
    here, everybody = (format_value(effect_size, v) for v in (effect_size.cluster_value, effect_size.overall_value))
    return here == everybody


def _name_together(row: ProfileRow, names: Mapping[str, str]) -> ProfileRow:
    """Return a row of several columns named by the words that their names begin with, and their number."""
    words = [names[column].split() for column in row.columns]
    shared = []
    for first, *others in zip(*words, strict=False):
        if any(other != first for other in others):
            break
        shared.append(first)
    n_more = len(row.columns) - 1
    if shared:
        return replace(row, what=f"{' '.join(shared)} ({len(row.columns)} columns)", short=" ".join(shared))
    return replace(row, what=f"{row.what} and {n_more} column{'s' if n_more > 1 else ''} like it")


def _short_title(effect_size: EffectSize) -> str:
    feature = effect_size.feature
    if feature.kind in ("label", "category") and not UNINFORMATIVE.match(feature.value_words):
        return feature.value_words
    return feature_title(effect_size)

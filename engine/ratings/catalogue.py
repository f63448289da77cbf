"""Which items a catalogue of titles has, such as a list of the films that a streaming service offers.

    Items, catalogue (.csv with title and release year)  ->  kept (n_items,), how many are a year apart

Titles are compared in a normal form, under every name a title goes by, and years must be equal. A title that is
right but a year off is counted and not taken: festival and cinema years differ, but so do remakes.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from dataclasses import dataclass
from os import PathLike

import fsspec
import numpy as np
from numpy.typing import NDArray

from engine.errors import MissingColumnError, NoCatalogueMatchError, SourceFormatError, SourceNotFoundError
from engine.ratings.items import NO_YEAR, Items, plausible, without_year

_TITLE_COLUMNS = ("title", "name")
_YEAR_COLUMNS = ("release_year", "year")
_ARTICLES = (
    "the|a|an|le|la|les|l'|un|une|der|die|das|den|dem|ein|eine|el|los|las|una|il|lo|i|gli|o|os|as|um|uma|de|het|een|"
    "det|en|ett"
)
_ARTICLE_BEHIND = re.compile(rf"^(.*), ({_ARTICLES})$")
_NAMES_BEHIND = re.compile(r"^(.*?)((?:\s*\([^()]*\))+)$")
_ALSO_KNOWN_AS = re.compile(r"^(?:a\.?k\.?a\.?|also known as)\s+")
_NO_NAMES = frozenset({"v", "tv", "vg"})  # MovieLens marks videos, television and games so


@dataclass(frozen=True)
class Catalogue:
    """What a catalogue holds: the years of each title in normal form, and how many rows could not be read."""

    years: dict[str, set[int]]
    n_rows: int
    n_unreadable: int


@dataclass(frozen=True)
class CatalogueMatch:
    """How many of the rated titles, and of the ratings with a value, a catalogue has."""

    n_rows: int
    n_unreadable_rows: int
    n_rated_titles: int
    n_matched_titles: int
    n_titles_a_year_off: int
    n_ratings: int
    n_matched_ratings: int


def read_catalogue(path: str | PathLike[str]) -> Catalogue:
    """Read titles and years from a comma-separated file; quoted fields may run over several lines.

    Rows without a title or without a plausible year are counted as unreadable.

    Raises
    ------
    SourceNotFoundError, SourceFormatError, MissingColumnError
    """
    where = str(path)
    years: dict[str, set[int]] = {}
    n_rows = n_unreadable = 0
    try:
        with fsspec.open(where, "rt", encoding="utf-8-sig", newline="", compression="infer") as stream:
            rows = csv.reader(stream)  # refuses fields above 2^17 characters: the rest behind an unclosed quote
            title_at, year_at = _places(next(rows, []), where)
            for row in rows:
                n_rows += 1
                year = _year(row[year_at]) if len(row) > max(title_at, year_at) else NO_YEAR
                names = names_of(row[title_at]) if year != NO_YEAR else frozenset()
                n_unreadable += not names
                for name in names:
                    years.setdefault(name, set()).add(year)
    except FileNotFoundError:
        raise SourceNotFoundError(f"There is no catalogue {where}.") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise SourceFormatError(
            f"The catalogue {where} cannot be read after row {n_rows:,}: {type(error).__name__}.",
            hint="it must be comma-separated UTF-8 text with one header line and closed quotes.",
        ) from None
    return Catalogue(years, n_rows, n_unreadable)


def match(items: Items, catalogue: Catalogue, where: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tell which items the catalogue has.

    Returns
    -------
    kept : bool of shape (n_items,)
        One of the item's names is a title of the catalogue with the same year.
    a_year_off : bool of shape (n_items,)
        Not kept, but one of its names is there one year earlier or later.

    Raises
    ------
    MissingColumnError
        If the items have no titles, or none has a year.
    NoCatalogueMatchError
        If no item is kept.
    """
    if items.titles is None or not items.decades:
        missing = "titles" if items.titles is None else "years"
        raise MissingColumnError(
            f"The items have no {missing}, and a catalogue is matched on titles and years.",
            hint="give items with a column 'title', and the year in a column 'year' or behind the title: Heat (1995).",
        )
    kept = np.zeros(len(items), bool)
    a_year_off = np.zeros(len(items), bool)
    for i, (title, year) in enumerate(zip(items.titles, items.years.tolist(), strict=True)):
        if title is None or year == NO_YEAR:
            continue
        there = set().union(*(catalogue.years.get(name, set()) for name in names_of(without_year(title))))
        kept[i] = year in there
        a_year_off[i] = not kept[i] and bool(there & {year - 1, year + 1})
    if not kept.any():
        raise NoCatalogueMatchError(
            f"None of {len(items):,} items is among the {catalogue.n_rows:,} rows of the catalogue {where}.",
            hint="titles must be of the same language, and years those of the first release.",
        )
    return kept, a_year_off


def names_of(title: str) -> frozenset[str]:
    """Return the names a title goes by, in normal form.

    "City of Lost Children, The (Cité des enfants perdus, La)" goes by both names and by the whole of it. In normal
    form a name is casefolded, its article stands in front, accents and apostrophes are gone, "&" is "and", and
    other punctuation is a blank.
    """
    names = {title}
    behind = _NAMES_BEHIND.match(title.strip())
    if behind:
        names |= {behind.group(1), *re.findall(r"\(([^()]*)\)", behind.group(2))}
    return frozenset(normal for normal in map(_normal, names) if normal and normal not in _NO_NAMES)


def _normal(name: str) -> str:
    plain = "".join(c for c in unicodedata.normalize("NFKD", name.casefold()) if not unicodedata.combining(c))
    plain = _ALSO_KNOWN_AS.sub("", plain.replace("’", "'").strip())
    behind = _ARTICLE_BEHIND.match(plain)
    if behind:
        rest, article = behind.groups()
        plain = article + ("" if article.endswith("'") else " ") + rest
    plain = plain.replace("&", " and ").replace("'", "")
    return " ".join("".join(c if c.isalnum() else " " for c in plain).split())


def _places(header: list[str], where: str) -> tuple[int, int]:
    names = [name.strip().lower() for name in header]
    places = []
    for wanted in (_TITLE_COLUMNS, _YEAR_COLUMNS):
        place = next((names.index(name) for name in wanted if name in names), None)
        if place is None:
            raise MissingColumnError(f"The catalogue {where} has no column {' or '.join(map(repr, wanted))}.")
        places.append(place)
    return places[0], places[1]


def _year(text: str) -> int:
    number = text.strip().removesuffix(".0")
    return plausible(int(number)) if number.isdecimal() and len(number) == 4 else NO_YEAR

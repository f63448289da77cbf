"""Match items with a catalogue of titles, such as the list of films that a streaming service offers.

    ItemTable, catalogue (.csv with title and release year)  ->  is_listed (n_items,), is_year_off (n_items,)

Titles are compared in a normal form, under all alternative titles, and years must be equal. An item whose title
matches but whose year is one off is counted and excluded: festival and cinema years differ, but so do remakes.
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
from engine.ratings.items import NO_YEAR, ItemTable, strip_year, valid_year
from engine.utils.similar_paths import suggest_path

_TITLE_COLUMNS = ("title", "name")
_YEAR_COLUMNS = ("release_year", "year")
_ARTICLES = (
    "the|a|an|le|la|les|l'|un|une|der|die|das|den|dem|ein|eine|el|los|las|una|il|lo|i|gli|o|os|as|um|uma|de|het|een|"
    "det|en|ett"
)
_TRAILING_ARTICLE = re.compile(rf"^(.*), ({_ARTICLES})$")
_TRAILING_NAMES = re.compile(r"^(.*?)((?:\s*\([^()]*\))+)$")
_ALSO_KNOWN_AS = re.compile(r"^(?:a\.?k\.?a\.?|also known as)\s+")
_FORMAT_MARKS = frozenset({"v", "tv", "vg"})  # how MovieLens marks videos, television and video games


@dataclass(frozen=True)
class TitleCatalogue:
    """Release years by normalized title, and the number of rows that could not be read."""

    years_by_title: dict[str, set[int]]
    n_rows: int
    n_unreadable: int


@dataclass(frozen=True)
class CatalogueMatch:
    """Counts of the rated titles, and of the ratings with a value, that a catalogue has."""

    n_rows: int
    n_unreadable_rows: int
    n_rated_titles: int
    n_matched_titles: int
    n_titles_a_year_off: int
    n_ratings: int
    n_matched_ratings: int


def read_catalogue(path: str | PathLike[str]) -> TitleCatalogue:
    """Read titles and release years from a comma-separated file; quoted fields may span lines.

    Rows without a title or without a year in VALID_YEARS are counted as unreadable.

    Raises
    ------
    SourceNotFoundError, SourceFormatError, MissingColumnError
    """
    source_name = str(path)
    years_by_title: dict[str, set[int]] = {}
    n_rows = n_unreadable = 0
    try:
        with fsspec.open(source_name, "rt", encoding="utf-8-sig", newline="", compression="infer") as stream:
            rows = csv.reader(stream)  # raises at fields above 2^17 characters, as after an unclosed quote
            title_index, year_index = _find_columns(next(rows, []), source_name)
            for row in rows:
                n_rows += 1
                year = _parse_year(row[year_index]) if len(row) > max(title_index, year_index) else NO_YEAR
                titles = normalized_titles(row[title_index]) if year != NO_YEAR else frozenset()
                n_unreadable += not titles
                for title in titles:
                    years_by_title.setdefault(title, set()).add(year)
    except FileNotFoundError:
        raise SourceNotFoundError(f"There is no catalogue {source_name}.", hint=suggest_path(source_name)) from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise SourceFormatError(
            f"The catalogue {source_name} cannot be read after row {n_rows:,}: {type(error).__name__}.",
            hint="it must be comma-separated UTF-8 text with one header line and closed quotes.",
        ) from None
    return TitleCatalogue(years_by_title, n_rows, n_unreadable)


def find_listed_items(
    items: ItemTable, catalogue: TitleCatalogue, source_name: str
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Find the items that the catalogue lists.

    Returns
    -------
    is_listed : bool of shape (n_items,)
        Whether one of the item's titles is in the catalogue with the same year.
    is_year_off : bool of shape (n_items,)
        Whether an item that is not listed has a title in the catalogue that is one year earlier or later.

    Raises
    ------
    MissingColumnError
        If the items have no titles, or none has a year.
    NoCatalogueMatchError
        If no item is listed.
    """
    if items.titles is None or not items.decades:
        missing = "titles" if items.titles is None else "years"
        raise MissingColumnError(
            f"The items have no {missing}, and a catalogue is matched on titles and years.",
            hint="give items with a column 'title', and the year in a column 'year' or behind the title: Heat (1995).",
        )
    is_listed = np.zeros(len(items), bool)
    is_year_off = np.zeros(len(items), bool)
    for i, (title, year) in enumerate(zip(items.titles, items.years.tolist(), strict=True)):
        if title is None or year == NO_YEAR:
            continue
        listed_years = set().union(
            *(catalogue.years_by_title.get(name, set()) for name in normalized_titles(strip_year(title)))
        )
        is_listed[i] = year in listed_years
        is_year_off[i] = not is_listed[i] and bool(listed_years & {year - 1, year + 1})
    if not is_listed.any():
        raise NoCatalogueMatchError(
            f"None of {len(items):,} items is among the {catalogue.n_rows:,} rows of the catalogue {source_name}.",
            hint="titles must be of the same language, and years those of the first release.",
        )
    return is_listed, is_year_off


def normalized_titles(title: str) -> frozenset[str]:
    """Return a title and its alternative titles in normal form.

    "City of Lost Children, The (Cité des enfants perdus, La)" yields three: the whole, the part before the
    parentheses, and the part in them. The normal form is casefolded and has the article in front, no accents or
    apostrophes, "and" for "&", and a blank for other punctuation.
    """
    titles = {title}
    match = _TRAILING_NAMES.match(title.strip())
    if match:
        titles |= {match.group(1), *re.findall(r"\(([^()]*)\)", match.group(2))}
    return frozenset(normal for normal in map(_normalize, titles) if normal and normal not in _FORMAT_MARKS)


def _normalize(title: str) -> str:
    text = "".join(c for c in unicodedata.normalize("NFKD", title.casefold()) if not unicodedata.combining(c))
    text = _ALSO_KNOWN_AS.sub("", text.replace("’", "'").strip())
    match = _TRAILING_ARTICLE.match(text)
    if match:
        rest, article = match.groups()
        text = article + ("" if article.endswith("'") else " ") + rest
    text = text.replace("&", " and ").replace("'", "")
    return " ".join("".join(c if c.isalnum() else " " for c in text).split())


def _find_columns(header: list[str], source_name: str) -> tuple[int, int]:
    """Return the indices of the title column and the year column."""
    names = [name.strip().lower() for name in header]
    indices = []
    for alternatives in (_TITLE_COLUMNS, _YEAR_COLUMNS):
        index = next((names.index(name) for name in alternatives if name in names), None)
        if index is None:
            raise MissingColumnError(
                f"The catalogue {source_name} has no column {' or '.join(map(repr, alternatives))}."
            )
        indices.append(index)
    return indices[0], indices[1]


def _parse_year(text: str) -> int:
    number = text.strip().removesuffix(".0")
    return valid_year(int(number)) if number.isdecimal() and len(number) == 4 else NO_YEAR

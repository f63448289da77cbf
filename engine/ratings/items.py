"""The table of rated items: ids, titles, years, and genres in compressed sparse rows.

    ids, titles, years, genres of each item  ->  ItemTable

Genre codes are in alphabetical order of the genres; memory grows with the number of (item, genre) pairs. A missing
year is extracted from the title, as MovieLens writes it: "Heat (1995)".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.errors import UsageError

NO_YEAR = 0
VALID_YEARS = range(1850, 2151)  # a year outside is taken for an error in the data
NO_GENRE_NAMES = frozenset({"", "(no genres listed)"})
MAX_GENRES = 512  # each adds two profile columns; more indicate keywords, or text split at the wrong separator
_YEAR = re.compile(r"\((\d{4})(?:\s*[-–]\s*(?:\d{4})?)?\s*\)")


@dataclass(frozen=True)
class ItemTable:
    """Items that users rate, one row per item.

    Attributes
    ----------
    ids : pyarrow.Array of int64 or string, of shape (n_items,), distinct
    titles : list of str or None, of length n_items; None where the table has no titles
    years : int64 of shape (n_items,), NO_YEAR where unknown
    genres : tuple of str, sorted
    genre_start, genre_code : int64 of shape (n_items + 1,) and (n_item_genres,)
        Item i has the genres genre_code[genre_start[i]:genre_start[i + 1]], each once.
    id_type_inferred : bool
        Whether the ids come from a CSV file, where the type of 7 (integer or string) is inferred from the values.
    """

    ids: pa.Array
    titles: list[str | None] | None
    years: NDArray[np.int64]
    genres: tuple[str, ...]
    genre_start: NDArray[np.int64]
    genre_code: NDArray[np.int64]
    id_type_inferred: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def decades(self) -> list[int]:
        """First year of each decade that has an item, ascending."""
        return sorted({int(year) // 10 * 10 for year in self.years if year != NO_YEAR})

    @property
    def decade_code(self) -> NDArray[np.int64]:
        """Index of each item in `decades`, int64 of shape (n_items,), -1 if its year is unknown."""
        codes = np.searchsorted(np.array(self.decades, np.int64), self.years // 10 * 10)
        return np.where(self.years == NO_YEAR, -1, codes)

    @property
    def n_without_genre(self) -> int:
        """Number of items without a genre."""
        return int((np.diff(self.genre_start) == 0).sum())


def build_item_table(
    ids: pa.Array,
    titles: list[str | None] | None,
    years: Sequence[int | None] | None,
    genres: Sequence[Sequence[str]],
    *,
    id_type_inferred: bool = False,
) -> ItemTable:
    """Build an ItemTable: extract missing years from the titles, and drop NO_GENRE_NAMES.

    Raises
    ------
    UsageError
        If there are more than MAX_GENRES genres.
    """
    stripped = [[name.strip() for name in names] for names in genres]
    item_genres = [dict.fromkeys(name for name in names if name not in NO_GENRE_NAMES) for names in stripped]
    genre_codes = {name: code for code, name in enumerate(sorted({name for names in item_genres for name in names}))}
    if len(genre_codes) > MAX_GENRES:
        raise UsageError(
            f"The items have {len(genre_codes):,} different genres, but profiles can have {MAX_GENRES} at most.",
            hint="use the main genres only, separated by '|', '; ' or ', '.",
        )
    year_column: Sequence[int | None] = [None] * len(ids) if years is None else years
    title_column: Sequence[str | None] = [None] * len(ids) if titles is None else titles
    valid_years = [
        valid_year(year) if year is not None else extract_year(title)
        for year, title in zip(year_column, title_column, strict=True)
    ]
    return ItemTable(
        ids=ids,
        titles=titles,
        years=np.array(valid_years, np.int64),
        genres=tuple(genre_codes),
        genre_start=np.concatenate(([0], np.cumsum([len(names) for names in item_genres]))).astype(np.int64),
        genre_code=np.array([genre_codes[name] for names in item_genres for name in names], np.int64),
        id_type_inferred=id_type_inferred,
    )


def valid_year(year: int) -> int:
    """Return the year, or NO_YEAR if it is outside VALID_YEARS."""
    return year if year in VALID_YEARS else NO_YEAR


def extract_year(title: str | None) -> int:
    """Return the last year in parentheses, the first year of a span such as (1975-1979), or NO_YEAR."""
    years = _YEAR.findall(title or "")
    return valid_year(int(years[-1])) if years else NO_YEAR


def strip_year(title: str) -> str:
    """Return the part of the title before its last year in parentheses."""
    matches = list(_YEAR.finditer(title))
    return (title[: matches[-1].start()] if matches else title).strip()

"""The items of a table of ratings: ids, titles, years and genres, as arrays that the pass over ratings reads.

    ids, titles, years, genres of each item  ->  Items

Genres are stored row after row (offsets and codes), sorted by name, so any number of genres per item costs what it
holds. A year that is not given is read from the title, as MovieLens writes it: "Heat (1995)".
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
YEARS = range(1850, 2151)  # outside lies no film, book or song with a year worth trusting
NO_GENRES = frozenset({"", "(no genres listed)"})
MAX_GENRES = 512  # each is two columns of the profile: more are keywords, or were split at the wrong sign
_YEAR = re.compile(r"\((\d{4})(?:\s*[-–]\s*(?:\d{4})?)?\s*\)")


@dataclass(frozen=True)
class Items:
    """The table of items.

    Attributes
    ----------
    ids : pyarrow.Array of int64 or string, of shape (n_items,), distinct
    titles : list of str or None, of length n_items; None where the table has no titles
    years : int64 of shape (n_items,), NO_YEAR where unknown
    genres : tuple of str, sorted
    genre_start, genre_code : int64 of shape (n_items + 1,) and (n_item_genres,)
        Item i has the genres genre_code[genre_start[i]:genre_start[i + 1]], each once.
    untyped : bool
        Whether the ids come from a text file, where 7 may be an integer or a text.
    """

    ids: pa.Array
    titles: list[str | None] | None
    years: NDArray[np.int64]
    genres: tuple[str, ...]
    genre_start: NDArray[np.int64]
    genre_code: NDArray[np.int64]
    untyped: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def decades(self) -> list[int]:
        """First years of the decades that items are from, ascending."""
        return sorted({int(year) // 10 * 10 for year in self.years if year != NO_YEAR})

    @property
    def decade_code(self) -> NDArray[np.int64]:
        """Each item's place in `decades`, int64 of shape (n_items,), -1 if its year is unknown."""
        places = np.searchsorted(np.array(self.decades, np.int64), self.years // 10 * 10)
        return np.where(self.years == NO_YEAR, -1, places)

    @property
    def n_without_genre(self) -> int:
        """The number of items that have no genre."""
        return int((np.diff(self.genre_start) == 0).sum())


def make_items(
    ids: pa.Array,
    titles: list[str | None] | None,
    years: Sequence[int | None] | None,
    genres: Sequence[Sequence[str]],
    *,
    untyped: bool = False,
) -> Items:
    """Build Items; `years` that are missing are read from the titles, marks of "no genre" are no genre.

    Raises
    ------
    UsageError
        If there are more than MAX_GENRES genres.
    """
    named = [dict.fromkeys(name.strip() for name in names if name.strip() not in NO_GENRES) for names in genres]
    order = {name: code for code, name in enumerate(sorted({name for names in named for name in names}))}
    if len(order) > MAX_GENRES:
        raise UsageError(
            f"The items have {len(order):,} different genres, but profiles can have {MAX_GENRES} at most.",
            hint="use the main genres only, separated by '|', '; ' or ', '.",
        )
    codes = [order[name] for names in named for name in names]
    given: Sequence[int | None] = [None] * len(ids) if years is None else years
    spelled: Sequence[str | None] = [None] * len(ids) if titles is None else titles
    known = [
        plausible(year) if year is not None else year_in_title(title)
        for year, title in zip(given, spelled, strict=True)
    ]
    return Items(
        ids=ids,
        titles=titles,
        years=np.array(known, np.int64),
        genres=tuple(order),
        genre_start=np.concatenate(([0], np.cumsum([len(names) for names in named]))).astype(np.int64),
        genre_code=np.array(codes, np.int64),
        untyped=untyped,
    )


def plausible(year: int) -> int:
    """Return the year, or NO_YEAR if it cannot be one."""
    return year if year in YEARS else NO_YEAR


def year_in_title(title: str | None) -> int:
    """Return the last year in parentheses, the first one of a span such as (1975-1979), or NO_YEAR."""
    years = _YEAR.findall(title or "")
    return plausible(int(years[-1])) if years else NO_YEAR


def without_year(title: str) -> str:
    """Return the title up to its last year in parentheses."""
    matches = list(_YEAR.finditer(title))
    return (title[: matches[-1].start()] if matches else title).strip()

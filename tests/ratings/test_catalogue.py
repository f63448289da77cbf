"""Normalized titles, and matching of items with a catalogue."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from engine.errors import MissingColumnError, NoCatalogueMatchError, SourceFormatError, SourceNotFoundError
from engine.ratings.catalogue import find_listed_items, normalized_titles, read_catalogue
from engine.ratings.items import build_item_table, extract_year, strip_year


def match_titles(titles: list[str], catalogue: str, folder: Path) -> tuple[list[bool], list[bool]]:
    path = folder / "titles.csv"
    path.write_text(catalogue, encoding="utf-8")
    items = build_item_table(pa.array(range(len(titles))), list(titles), None, [[]] * len(titles))
    is_listed, is_year_off = find_listed_items(items, read_catalogue(path), str(path))
    return is_listed.tolist(), is_year_off.tolist()


@pytest.mark.parametrize(
    ("title", "other_title"),
    [
        ("Matrix, The", "The Matrix"),
        ("THE MATRIX", "the matrix"),
        ("Amélie", "Amelie"),
        ("Schindler’s List", "Schindler's List"),
        ("Spider-Man: Homecoming", "Spider Man Homecoming"),
        ("Rhyme & Reason", "Rhyme and Reason"),
        ("Clockwork Orange, A", "A Clockwork Orange"),
        ("Appartement, L'", "L'appartement"),
        ("Haine, La", "La Haine"),
        ("Straße", "Strasse"),
        ("Lord of the Rings: The Two Towers, The", "The Lord of the Rings – The Two Towers"),
        ("Twelve Monkeys (a.k.a. 12 Monkeys)", "12 Monkeys"),
        ("City of Lost Children, The (Cité des enfants perdus, La)", "La cite des enfants perdus"),
        ("City of Lost Children, The (Cité des enfants perdus, La)", "The City of Lost Children"),
        ("Seven Samurai (The Magnificent Seven) (Shichinin no samurai)", "The Magnificent Seven"),
        ("(500) Days of Summer", "500 Days of Summer"),
    ],
)
def test_titles_that_are_one_film_share_a_name(title: str, other_title: str) -> None:
    assert normalized_titles(title) & normalized_titles(other_title)


@pytest.mark.parametrize(
    ("title", "other_title"),
    [
        ("The Thing", "Thing"),
        ("Alien", "Aliens"),
        ("Land Before Time (V)", "V"),
        ("Up", "Up in the Air"),
        ("!!!", "???"),
    ],
)
def test_titles_of_different_films_share_none(title: str, other_title: str) -> None:
    assert not normalized_titles(title) & normalized_titles(other_title)


@pytest.mark.parametrize(
    ("title", "year", "rest"),
    [
        ("Heat (1995)", 1995, "Heat"),
        ("Two Friends (1986) ", 1986, "Two Friends"),
        ("2001: A Space Odyssey (1968)", 1968, "2001: A Space Odyssey"),
        ("Fawlty Towers (1975-1979)", 1975, "Fawlty Towers"),
        ("Death Note (2006–2007)", 2006, "Death Note"),
        ("Cops (1989- )", 1989, "Cops"),
        ("Land Before Time III (1995) (V)", 1995, "Land Before Time III"),
        ("Class of (1984) (1982)", 1982, "Class of (1984)"),
        ("unknown", 0, "unknown"),
        ("Number (9999)", 0, "Number"),
    ],
)
def test_a_year_is_the_last_one_in_parentheses(title: str, year: int, rest: str) -> None:
    assert extract_year(title) == year
    assert strip_year(title) == rest


def test_title_and_year_must_both_be_there(tmp_path: Path) -> None:
    titles = ["Heat (1995)", "Heat (1986)", "Major Payne (1994)", "Ran (1985)", "Heat"]
    catalogue = "type,title,release_year\nMovie,Heat,1995\nMovie,Major Payne,1995\n"
    assert match_titles(titles, catalogue, tmp_path) == ([True] + [False] * 4, [False, False, True, False, False])


def test_broken_rows_are_counted_and_quotes_may_span_lines(tmp_path: Path) -> None:
    path = tmp_path / "titles.csv"
    path.write_text('title,cast,release_year\nHeat,"Al\nPacino",1995\nRan\nUp,x,soon\n,x,2009\nUp,x,2009.0\n')
    titles = read_catalogue(path)
    assert (titles.n_rows, titles.n_unreadable) == (5, 3)
    assert titles.years_by_title == {"heat": {1995}, "up": {2009}}


def test_a_catalogue_that_has_none_of_the_titles_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NoCatalogueMatchError, match="None of 1 items is among the 1 rows"):
        match_titles(["Heat (1995)"], "title,release_year\nRan,1985\n", tmp_path)


def test_catalogues_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="There is no catalogue"):
        read_catalogue(tmp_path / "nowhere.csv")
    with pytest.raises(MissingColumnError, match="no column 'release_year' or 'year'"):
        match_titles(["Heat (1995)"], "title,country\nHeat,US\n", tmp_path)
    with pytest.raises(SourceFormatError, match="cannot be read after row 1"):
        match_titles(["Heat (1995)"], 'title,year\nHeat,1995\n"' + "x" * 200_000, tmp_path)
    with pytest.raises(MissingColumnError, match="items have no years"):
        match_titles(["Heat"], "title,year\nHeat,1995\n", tmp_path)

"""Zeros beside a scale of ratings are no ratings if they are far more than its lowest steps, and the notes say so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import engine
from engine.cli import app
from engine.errors import EmptyTableError, UsageError
from engine.ratings.rating_scale import RatingScale, Zeros
from tests.ratings.rated_tables import ITEMS, ratings_table, result_table

BOOK_CROSSING = {0: 7160, 1: 18, 2: 28, 3: 60, 4: 89, 5: 510, 6: 369, 7: 765, 8: 1037, 9: 675, 10: 786}


def scale(counts: dict[float, int]) -> RatingScale:
    found = RatingScale()
    found.update(np.repeat(np.array(list(counts)), list(counts.values())))
    return found


@pytest.mark.parametrize(
    ("counts", "no_rating"),
    [
        (BOOK_CROSSING, True),
        ({0: 300, 1: 50, 2: 90, 3: 200, 4: 250, 5: 180}, True),  # stars, more zeros than of any other value
        ({0: 120, 0.5: 2, 1: 10, 1.5: 20, 3: 300, 4.5: 400, 5: 200}, True),  # half stars
        ({0: 100, 1: 9, 2: 8, 3: 200, 4: 300, 5: 200}, True),  # a heap, but not the largest
        ({0: 50, 1: 12, 2: 15, 5: 70, 8: 200, 9: 150, 10: 250}, False),  # "would you recommend us?", from 0 to 10
        ({0: 40, 1: 60, 2: 80, 3: 100, 4: 60, 5: 40}, False),  # six points
        ({0: 900, 1: 100}, False),  # like or not
        ({0: 500, 1: 300, 2: 100, 3: 50}, False),  # so many times
        ({0: 500, 1.25: 10, 3.1: 20, 5: 30}, False),  # no scale
        ({0: 500, 20: 100, 100: 50}, False),
        ({0: 5, 1: 1, 4: 2, 5: 2}, False),  # too few to tell
        ({1: 50, 5: 100}, False),
    ],
)
def test_zeros_are_no_ratings_where_they_are_a_heap_below_a_scale(counts: dict[float, int], no_rating: bool) -> None:
    assert scale(counts).zero_is_no_rating is no_rating


def test_missing_and_infinite_ratings_are_not_counted_as_steps() -> None:
    found = RatingScale()
    found.update(np.array([np.nan, 0.0, 4.5, np.inf, -1.0]))
    assert (found.n_zeros, int(found.counts.sum()), found.others.total()) == (1, 2, 2)


@pytest.mark.parametrize(
    ("counts", "marks"),
    [
        ({-1: 40, 1: 60, 2: 80, 3: 100, 4: 60, 5: 40}, (-1.0,)),
        ({-1: 2, 99: 9, 0.5: 60, 2: 80, 3.5: 100, 5: 40}, (-1.0, 99.0)),
        ({-999: 3, 1: 60, 7: 80, 10: 40}, (-999.0,)),
        ({-1: 40, 1: 60}, ()),  # dislike and like
        ({-1: 40, -2.5: 3, 1: 60, 2: 80, 5: 40}, ()),  # no scale
        ({99: 40, 98: 3, 60: 60, 5: 40, 4: 80}, ()),  # percent
        ({-1: 1, 1: 6, 2: 8, 5: 4}, ()),  # too few to tell
        ({**{-n: 5 for n in range(1, 7)}, 1: 60, 2: 80, 5: 40}, ()),
    ],
)
def test_numbers_off_a_scale_that_look_like_marks_are_no_ratings(
    counts: dict[float, int], marks: tuple[float, ...]
) -> None:
    assert scale(counts).marks == marks


@pytest.mark.parametrize("zeros", ["auto", "ratings", "missing"])
def test_profiles_are_those_of_ratings_without_marks(zeros: Zeros) -> None:
    marked = ratings_table(rows(-1.0)[:120] + rows(99.0)[120:])
    result = engine.profiles_from_ratings(marked, ITEMS, zeros=zeros)
    expected = engine.profiles_from_ratings(ratings_table(rows(None)), ITEMS)
    assert result_table(result).equals(result_table(expected))
    assert "Of the ratings, 60 are -1 and 60 are 99, off the scale" in result.describe()


def rows(zero: float | None) -> list[tuple[Any, Any, Any, Any]]:
    """Return ratings of 40 users: everybody looked at three items more than they rated."""
    return [(user, 1 + (user + n) % 4, [8.0, 7.0, 9.0, zero, zero, zero][n], n) for user in range(40) for n in range(6)]


def test_profiles_are_those_of_ratings_without_a_value() -> None:
    result = engine.profiles_from_ratings(ratings_table(rows(0.0)), ITEMS)
    expected = engine.profiles_from_ratings(ratings_table(rows(None)), ITEMS)
    assert result_table(result).equals(result_table(expected))
    assert result_table(result)["mean_rating"].to_pylist() == [8.0] * 40
    assert (result.n_ratings_read, result.n_ratings_used) == (240, 120)
    assert "120 ratings are 0, below the scale: they were taken as rows without a rating." in result.describe()


def test_a_setting_decides_what_zeros_are(tmp_path: Path) -> None:
    kept = engine.profiles_from_ratings(ratings_table(rows(0.0)), ITEMS, zeros="ratings")
    assert result_table(kept)["mean_rating"].to_pylist() == [4.0] * 40
    assert "120 ratings are 0, and were taken as such." in kept.describe()
    few = ratings_table([(1, 1, 0.0, 0), (1, 2, 4.0, 0), (2, 1, 5.0, 0)])
    assert result_table(engine.profiles_from_ratings(few, ITEMS))["n_ratings"].to_pylist() == [2, 1]
    left_out = engine.profiles_from_ratings(few, ITEMS, zeros="missing")
    assert result_table(left_out)["n_ratings"].to_pylist() == [1, 1]
    with pytest.raises(EmptyTableError, match="none with a rating"):
        engine.profiles_from_ratings(ratings_table([(1, 1, 0.0, 0)]), ITEMS, zeros="missing")
    with pytest.raises(UsageError, match="zeros='never' must be one of 'auto', 'missing', 'ratings'"):
        engine.profiles_from_ratings(few, ITEMS, zeros="never")  # type: ignore[arg-type]


def test_tables_with_the_columns_of_book_crossing_are_read_by_the_command(tmp_path: Path) -> None:
    lines = [f"{user};{item:010d};{rating:.0f}" for user, item, rating, _ in rows(0.0)]
    (tmp_path / "ratings.csv").write_text("\n".join(["User-ID;ISBN;Book-Rating", *lines, ""]))
    books = [f"{item:010d};Book {item};{1990 + item}" for item in range(1, 5)]
    (tmp_path / "books.csv").write_text("\n".join(["ISBN;Book-Title;Year-Of-Publication", *books, ""]))
    command = ["profiles", "--ratings", str(tmp_path / "ratings.csv"), "--items", str(tmp_path / "books.csv")]
    for options, used in (((), 120), (("--zeros", "ratings"), 240)):
        out = ("--out", str(tmp_path / f"p{used}.parquet"), "--json", *options)
        result = CliRunner().invoke(app, [*command, *out])
        assert result.exit_code == 0, result.stderr
        assert f'"ratings_used": {used}' in result.stdout

"""Excluded ratings are counted, existing files are protected, and invalid tables raise errors that say why."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import (
    DataError,
    EmptyTableError,
    IdColumnError,
    MissingColumnError,
    NoCatalogueMatchError,
    NonFiniteValueError,
    OutputExistsError,
    RetypedColumnError,
    SchemaMismatchError,
    SourceFormatError,
    SourceNotFoundError,
    TooFewRowsError,
    UsageError,
)
from engine.ratings.build import profiles_from_ratings
from engine.ratings.profile_table import write_profiles
from tests.ratings.rated_tables import ITEMS, random_rows, ratings_table, result_table


def test_what_is_left_out_is_counted_and_said() -> None:
    rows = [(1, 1, 4.0, 0), (1, 9, 2.0, 0), (2, 1, None, 5), (2, 1, float("nan"), 5), (3, 1, 3.0, 7), (3, 2, 3.0, 7)]
    result = profiles_from_ratings(ratings_table(rows), ITEMS, min_ratings=2)
    text = "\n".join(result.notes)
    assert result_table(result)["user_id"].to_pylist() == [1, 3]
    assert (result.n_ratings_read, result.n_ratings_used) == (6, 4)
    assert "2 rows without a rating were left out" in text
    assert "1 ratings are of items that the table of items does not have" in text
    assert "1 users have no rating that counts" in text
    assert "2 of 4 items have no genre" in text
    assert "1 of 4 items have no year" in text
    few_result = profiles_from_ratings(ratings_table([*rows, (4, 1, 1.0, 0)]), ITEMS, min_ratings=2)
    assert "1 users with fewer than 2 ratings have no profile; they gave 1 ratings" in "\n".join(few_result.notes)
    assert few_result.n_ratings_used == 4


def test_columns_that_cannot_be_made_are_left_out_and_named() -> None:
    bare = pa.table({"user": [1, 2], "item": ["a", "b"], "rating": [1, 10]})
    result = profiles_from_ratings(bare, pa.table({"item": ["a", "b"]}))
    assert result_table(result).column_names == ["user_id", "n_ratings", "mean_rating", "rating_sd"]
    assert len(result.notes) == 4
    assert result_table(result).schema.field("mean_rating").metadata[b"rooms.unit"] == b"rating points"


def test_a_catalogue_keeps_its_titles_and_says_how_many(tmp_path: Path) -> None:
    path = tmp_path / "titles.csv"
    path.write_text("title,release_year\nheat,1995\nRan,1986\n")
    rows = [(1, 1, 4.0, 0), (1, 2, 2.0, 0), (2, 2, 5.0, 86400), (3, 9, 1.0, 0), (3, 1, None, 0)]
    result = profiles_from_ratings(ratings_table(rows), ITEMS, catalogue=path)
    match = result.catalogue
    assert match is not None
    assert (match.n_rated_titles, match.n_matched_titles, match.n_titles_a_year_off) == (2, 1, 1)
    assert (match.n_ratings, match.n_matched_ratings, result.n_ratings_used) == (4, 1, 1)
    profile = result_table(result).to_pylist()[0]
    assert (profile["user_id"], profile["n_ratings"], profile["recency"]) == (1, 1, 1.0), (
        "the last day of all ratings counts"
    )
    assert "1 of 2 rated titles, and 1 of 4 ratings" in result.describe()
    assert result.facts()["catalogue"]["n_matched_titles"] == 1
    with pytest.raises(NoCatalogueMatchError, match="None of 1 rated titles"):
        profiles_from_ratings(ratings_table([(1, 2, 4.0, 0)]), ITEMS, catalogue=path)


def test_progress_is_told_after_every_batch(block_rows: Callable[[int], None]) -> None:
    block_rows(40)
    calls: list[tuple[int, int | None]] = []
    profiles_from_ratings(
        ratings_table(random_rows(100, 5)), ITEMS, progress=lambda done, total: calls.append((done, total))
    )
    assert calls == [(40, 100), (80, 100), (100, 100)]


def test_an_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "new folder" / "p.parquet"
    ratings = ratings_table(random_rows(200, 50))
    profiles_from_ratings(ratings.slice(0, 100), ITEMS, out=out)
    before = out.read_bytes()

    def interrupted_batches() -> Iterator[pa.RecordBatch]:
        yield from result_table(profiles_from_ratings(ratings, ITEMS)).to_batches()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_profiles(interrupted_batches(), out)
    with pytest.raises(OutputExistsError, match=r"p\.parquet already exists"):
        profiles_from_ratings(ratings, ITEMS, out=out)
    assert out.read_bytes() == before
    profiles_from_ratings(ratings, ITEMS, out=out, overwrite=True)
    assert pq.read_table(out).num_rows == len(set(ratings["user_id"].to_pylist()))
    assert [path.name for path in out.parent.iterdir()] == ["p.parquet"], "nothing is left beside it"
    with pytest.raises(UsageError, match="is a folder"):
        profiles_from_ratings(ratings, ITEMS, out=tmp_path)
    with pytest.raises(UsageError, match="named as csv, but tables are written as Parquet"):
        profiles_from_ratings(ratings, ITEMS, out=tmp_path / "profiles.csv")


def test_two_columns_of_one_name_are_an_error() -> None:
    users = pa.table({"user_id": [1], "share_Drama": [0.5]})
    with pytest.raises(SchemaMismatchError, match="two columns 'share_Drama'"):
        profiles_from_ratings(ratings_table([(1, 1, 4.0, 0)]), ITEMS, users)


ONE_RATING = ratings_table([(1, 1, 4.0, 0)])


@pytest.mark.parametrize(
    ("ratings", "items", "error", "words"),
    [
        (ONE_RATING.drop_columns(["rating"]), ITEMS, MissingColumnError, "no column for the rating"),
        (ONE_RATING, ITEMS.drop_columns(["item_id"]), MissingColumnError, "no column for the item"),
        (ratings_table([(1, 1, math.inf, 0), (1, 1, 2.0, 0)]), ITEMS, NonFiniteValueError, "1 ratings of .* infinite"),
        (ratings_table([(None, 1, 1.0, 0), (1, 1, 2.0, 0)]), ITEMS, IdColumnError, "no id in 1 of 2 rows"),
        (ratings_table([(1.5, 1, 1.0, 0)], pa.float64()), ITEMS, IdColumnError, "holds double"),
        (ratings_table([(2**63, 1, 1.0, 0)], pa.uint64()), ITEMS, IdColumnError, r"2\^63 and more"),
        (ONE_RATING.set_column(2, "rating", pa.array(["good"])), ITEMS, RetypedColumnError, "ratings must be numbers"),
        (ONE_RATING.set_column(3, "time", pa.array(["noon"])), ITEMS, RetypedColumnError, "times must be seconds"),
        (ONE_RATING, pa.concat_tables([ITEMS, ITEMS]), IdColumnError, "4 of 8 rows have one seen before"),
        (ONE_RATING, ITEMS.set_column(2, "year", pa.array(["x"] * 4)), RetypedColumnError, "years must be numbers"),
        (ONE_RATING, ITEMS.set_column(3, "genres", pa.array([1] * 4)), RetypedColumnError, "genres must be text"),
        (ratings_table([(1, 7, 4.0, 0)]), ITEMS, EmptyTableError, "None of the 1 ratings"),
        (ratings_table([(1, 1, None, 0)]), ITEMS, EmptyTableError, "1 rows, and none with a rating"),
        (ONE_RATING.slice(0, 0), ITEMS, EmptyTableError, "no rows"),
        ("nowhere/u.data", ITEMS, SourceNotFoundError, "no file or folder nowhere/u.data"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(ratings: Any, items: Any, error: type[DataError], words: str) -> None:
    with pytest.raises(error, match=words):
        profiles_from_ratings(ratings, items)


def test_a_file_of_no_known_layout_names_those_that_are(tmp_path: Path) -> None:
    path = tmp_path / "stars.txt"
    path.write_text("1 10 5\n")
    for arguments in ((path, ITEMS), (ONE_RATING, path), (ONE_RATING, ITEMS, path)):
        with pytest.raises(SourceFormatError, match="fits no layout of") as error:
            profiles_from_ratings(*arguments)
        assert "MovieLens 100K" in str(error.value)


def test_too_few_ratings_and_nonsense_limits_are_errors() -> None:
    with pytest.raises(TooFewRowsError, match="None of 1 users has min_ratings=2 ratings; the most is 1"):
        profiles_from_ratings(ONE_RATING, ITEMS, min_ratings=2)
    with pytest.raises(UsageError, match="min_ratings=0 must be at least 1"):
        profiles_from_ratings(ONE_RATING, ITEMS, min_ratings=0)
    many = ITEMS.set_column(3, "genres", pa.array([[f"g{i}" for i in range(513)], [], [], []]))
    with pytest.raises(UsageError, match="513 different genres"):
        profiles_from_ratings(ONE_RATING, many)


def test_a_pandas_column_with_gaps_is_ratings_not_given() -> None:
    frame = pd.DataFrame({"user": [1, 1], "item": [1, 2], "rating": [np.nan, 2.5]})
    result = profiles_from_ratings(frame, ITEMS)
    assert (result.n_ratings_read, result.n_ratings_used) == (2, 1)


@pytest.mark.parametrize(
    ("line", "error", "words"),
    [
        ("1,1,good", RetypedColumnError, r"ratings must be numbers \(see line 3 of"),
        ("1,1,inf", NonFiniteValueError, r"1 ratings of .* are infinite \(see line 3 of"),
        ("1,1,-1e999", NonFiniteValueError, r"1 ratings of .* are infinite \(see line 3 of"),
        ("1,,4", IdColumnError, r"'item_id' of .* has no id in 1 of 3 rows \(see line 3 of"),
        (",1,4", IdColumnError, r"'user_id' is the id, and it is missing in 1 of the first 3 rows \(see line 3 of"),
    ],
)
def test_the_line_of_a_bad_rating_is_named(line: str, error: type[Exception], words: str, tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text(f"user_id,item_id,rating\n1,1,\n{line}\n2,1,3.5\n")
    with pytest.raises(error, match=words):
        profiles_from_ratings(tmp_path / "ratings.csv", ITEMS)

"""Profiles from rating tables equal those of a plain loop, for any batch size, format and id type."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import IdColumnError, RetypedColumnError
from engine.ratings import repeated_ratings
from engine.ratings.build import profiles_from_ratings
from tests.ratings.rated_tables import ITEMS, random_rows, ratings_table, result_table

YEAR = {1: 1995, 2: 1985, 3: 2009}

GENRES = {1: ["Crime", "Drama"], 2: ["Drama"]}


def profiles_by_loop(rows: list[tuple[int, int, float | None, int | None]]) -> list[dict[str, Any]]:
    """Compute profiles by their definition, one user at a time."""
    newest = max((timestamp for *_, timestamp in rows if timestamp is not None), default=0)
    profiles = []
    for user in sorted({user for user, _, rating, _ in rows if rating is not None}):
        user_rows = [row for row in rows if row[0] == user and row[2] is not None]
        ratings = [float(rating) for _, _, rating, _ in user_rows if rating is not None]
        times = [timestamp for *_, timestamp in user_rows if timestamp is not None]
        n, mean = len(user_rows), math.fsum(ratings) / len(user_rows)
        profile: dict[str, Any] = {"user_id": user, "n_ratings": n, "mean_rating": mean}
        profile["rating_sd"] = math.sqrt(math.fsum((rating - mean) ** 2 for rating in ratings) / n)
        profile["recency"] = (newest - max(times)) / 86400 if times else None
        profile["days_active"] = (max(times) - min(times)) / 86400 if times else None
        in_genre = {
            g: [r for r, row in zip(ratings, user_rows, strict=True) if g in GENRES.get(row[1], [])]
            for g in ("Crime", "Drama")
        }
        for genre, genre_ratings in in_genre.items():
            profile[f"share_{genre}"] = len(genre_ratings) / n
        for genre, genre_ratings in in_genre.items():
            n_genre = len(genre_ratings)
            genre_mean = math.fsum(genre_ratings) / n_genre if genre_ratings else mean
            profile[f"affinity_{genre}"] = (genre_mean - mean) * n_genre / (n_genre + 5)
        decades = [YEAR[row[1]] // 10 * 10 for row in user_rows if row[1] in YEAR]
        for decade in (1980, 1990, 2000):
            profile[f"share_{decade}s"] = decades.count(decade) / n
        best = max((1980, 1990, 2000), key=lambda d: (decades.count(d), -d)) if decades else None
        profile["favourite_decade"] = None if best is None else f"{best}s"
        order = sorted(in_genre, key=lambda g: (-len(in_genre[g]), g))
        profile["favourite_genres"] = [genre for genre in order if in_genre[genre]][:3]
        profiles.append(profile)
    return profiles


def assert_same_profiles(result: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(result) == len(expected)
    for profile, expected_profile in zip(result, expected, strict=True):
        assert list(profile) == list(expected_profile)
        for name, value in expected_profile.items():
            if isinstance(value, float):
                assert profile[name] == pytest.approx(value, rel=1e-12, abs=1e-7), name
            else:
                assert profile[name] == value, name


ROWS = st.lists(
    st.tuples(
        st.sampled_from([-7, 3, 12, 2**60 + 1]),
        st.integers(1, 5),  # item 5 is not in ITEMS
        st.one_of(st.integers(1, 10).map(lambda half: half / 2), st.none()),
        st.one_of(st.integers(0, 10**9), st.none()),
    ),
    min_size=1,
    max_size=25,
).filter(lambda rows: any(rating is not None and item < 5 for _, item, rating, _ in rows))


@given(ROWS)
def test_profiles_are_those_of_a_plain_loop(rows: list[tuple[int, int, float | None, int | None]]) -> None:
    result = profiles_from_ratings(ratings_table(rows), ITEMS)
    assert_same_profiles(result_table(result).to_pylist(), profiles_by_loop(rows))
    assert result.n_ratings_read == len(rows)
    assert result.n_ratings_used == sum(rating is not None for _, _, rating, _ in rows)


@pytest.mark.parametrize("rows_per_batch", [1, 7, 999, 1000, 1001])
def test_not_a_bit_depends_on_the_size_of_a_batch(block_rows: Callable[[int], None], rows_per_batch: int) -> None:
    table = ratings_table(random_rows(1000, 30))  # ratings that are not half stars, so that sums are rounded
    whole = result_table(profiles_from_ratings(table, ITEMS))
    block_rows(rows_per_batch)
    assert result_table(profiles_from_ratings(table, ITEMS)).equals(whole, check_metadata=True)


def test_profiles_come_in_runs_of_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = ratings_table(random_rows(5000, 700))
    whole = result_table(profiles_from_ratings(table, ITEMS))
    monkeypatch.setattr("engine.ratings.profile_table.ROWS_PER_GROUP", 64)
    result = profiles_from_ratings(table, ITEMS, out=tmp_path / "p.parquet")
    assert result.table is None
    assert pq.read_table(tmp_path / "p.parquet").equals(whole)
    metadata = pq.ParquetFile(tmp_path / "p.parquet").metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [64] * 10 + [len(whole) - 640]


def test_every_form_of_a_table_gives_the_same_profiles(tmp_path: Path) -> None:
    ratings = ratings_table(random_rows(200, 20))
    users = pa.table({"user_id": list(range(20)), "plan": ["a", "b"] * 10})
    flat = ITEMS.set_column(3, "genres", pa.array(["Crime|Drama", "Drama", "", None]))
    whole = result_table(profiles_from_ratings(ratings, ITEMS, users))
    assert whole.equals(result_table(profiles_from_ratings(ratings.to_pandas(), ITEMS.to_pandas(), users.to_pandas())))
    polars = [pl.from_arrow(table) for table in (ratings, ITEMS, users)]
    assert whole.equals(result_table(profiles_from_ratings(*polars)))
    for name, table in {"ratings": ratings, "items": flat, "users": users}.items():
        pq.write_table(table, tmp_path / f"{name}.parquet")
        pacsv.write_csv(table, tmp_path / f"{name}.csv")
    for form in ("parquet", "csv"):
        paths = [tmp_path / f"{name}.{form}" for name in ("ratings", "items", "users")]
        assert result_table(profiles_from_ratings(*paths)).equals(whole), form
    mixed = profiles_from_ratings(tmp_path / "ratings.csv", tmp_path / "items.parquet", users)
    assert result_table(mixed).equals(whole)


@pytest.mark.parametrize("separator", ["|", "; ", ", "])
def test_genres_are_split_at_the_separator_that_is_there(separator: str) -> None:
    texts = [f"Sci-Fi{separator}Rock & Roll{separator}Sci-Fi", "Drama", None, "(no genres listed)"]
    items = ITEMS.set_column(3, "genres", pa.array(texts))
    names = result_table(profiles_from_ratings(ratings_table([(1, 1, 4.0, 0)]), items)).column_names
    assert [name for name in names if name.startswith("share_") and not name.endswith("0s")] == [
        "share_Drama",
        "share_Rock & Roll",
        "share_Sci-Fi",
    ]


def test_text_ids_keep_zeros_and_sort_as_text(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("userId,movieId,rating\n10,1,4\n007,2,3.5\n9,1,2\n007,1,2\n")
    (tmp_path / "users.csv").write_text("userId,zip,age\n007,02139,30\n10,85711,40\n7,00000,50\n")
    result = profiles_from_ratings(path, ITEMS, tmp_path / "users.csv")
    rows = result_table(result).to_pylist()
    assert [row["user_id"] for row in rows] == ["007", "10", "9"]
    assert [row["zip"] for row in rows] == ["02139", "85711", None]
    assert [row["age"] for row in rows] == [30, 40, None]
    assert rows[0]["n_ratings"] == 2
    assert "1 of 3 profiles have no row" in "\n".join(result.notes)
    assert "1 of 3 rows of" in "\n".join(result.notes)
    assert "recency and days_active are left out" in "\n".join(result.notes)


def test_integer_ids_beyond_2_to_the_53_stay_exact() -> None:
    ids = [2**53 + 1, 2**53, 2**62 + 3, -5]
    users = pa.table({"user": pa.array(ids), "n": pa.array([1, 2, 3, 4], pa.int16())})
    table = result_table(profiles_from_ratings(ratings_table([(id, 1, 3.0, 0) for id in ids]), ITEMS, users))
    assert table["user_id"].to_pylist() == sorted(ids)
    assert table["n"].to_pylist() == [4, 2, 1, 3]
    assert table.schema.field("n").type == pa.int16()


def test_ids_of_a_text_file_meet_ids_of_either_type(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("user,item,rating\n1,1,4\n2,2,3\n")
    texts = pa.table({"user": ["1", "x"], "plan": ["a", "b"]})
    items = ITEMS.set_column(0, "item_id", ITEMS["item_id"].cast(pa.string()))
    rows = result_table(profiles_from_ratings(path, items, texts)).to_pylist()
    assert [(row["user_id"], row["plan"], row["share_Drama"]) for row in rows] == [(1, "a", 1.0), (2, None, 1.0)]


def test_ids_of_two_types_in_typed_tables_are_an_error() -> None:
    ratings = ratings_table([(1, 1, 4.0, 0)])
    with pytest.raises(IdColumnError, match="int64 in the ratings and string in the items"):
        profiles_from_ratings(ratings, ITEMS.set_column(0, "item_id", ITEMS["item_id"].cast(pa.string())))
    with pytest.raises(IdColumnError, match="int64 in the ratings and string in the users"):
        profiles_from_ratings(ratings, ITEMS, pa.table({"user_id": ["1"]}))


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns", "date"])
def test_times_may_be_seconds_timestamps_or_dates(unit: str) -> None:
    days = [dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 11), dt.datetime(2020, 2, 1)]
    times = pa.array([day.date() for day in days]) if unit == "date" else pa.array(days, pa.timestamp(unit, "UTC"))
    table = pa.table({"user": [1, 1, 2], "item": [1, 1, 1], "rating": [1, 2, 3], "timestamp": times})
    rows = result_table(profiles_from_ratings(table, ITEMS)).to_pylist()
    assert [(row["recency"], row["days_active"]) for row in rows] == [(21.0, 10.0), (0.0, 0.0)]
    with pytest.raises(RetypedColumnError, match=r"3 are 10\^11 and more"):
        profiles_from_ratings(table.set_column(3, "timestamp", pa.array([10**12] * 3)), ITEMS)


def test_repeated_ratings_all_count() -> None:
    row = result_table(profiles_from_ratings(ratings_table([(1, 1, 2.0, 0), (1, 1, 4.0, 0)]), ITEMS)).to_pylist()[0]
    assert (row["n_ratings"], row["mean_rating"]) == (2, 3.0)


@pytest.mark.parametrize(("limit", "written"), [(10_000, "1,500 of 6,500"), (500, "About 1,[3-7]00 of 6,500")])
def test_repeated_ratings_are_counted_or_estimated(limit: int, written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeated_ratings, "MAX_PAIRS", limit)
    pairs = [(user, item, 3.0, 0) for user in range(1250) for item in (1, 2, 3, 4)]
    twice = [*pairs, *pairs[:1500]]
    (note,) = [note for note in profiles_from_ratings(ratings_table(twice), ITEMS).notes if "rated before" in note]
    assert re.match(written, note)
    assert not any("rated before" in note for note in profiles_from_ratings(ratings_table(pairs), ITEMS).notes)


def test_repeated_ratings_of_items_that_no_table_has_are_counted() -> None:
    known = [(1, 1, 4.0, 0)]
    result = profiles_from_ratings(ratings_table([*known, (1, 98, 4.0, 0), (1, 99, 4.0, 0), (1, 98, 4.0, 0)]), ITEMS)
    assert any(note.startswith("1 of 4 ratings are of an item") for note in result.notes)


def test_the_first_second_of_1970_is_no_time_beside_others_of_the_web() -> None:
    day, start = 86_400, 1_500_000_000
    rows = [(1, 1, 4.0, start), (1, 2, 4.0, start + 3 * day), (1, 3, 4.0, 0), (2, 1, 3.0, 0)]
    result = profiles_from_ratings(ratings_table(rows), ITEMS)
    expected = profiles_from_ratings(ratings_table([*rows[:2], (1, 3, 4.0, None), (2, 1, 3.0, None)]), ITEMS)
    assert result_table(result).equals(result_table(expected))
    assert result_table(result)["days_active"].to_pylist() == [3.0, None]
    assert any(note.startswith("2 ratings have no time") for note in result.notes)
    of_old = ratings_table([(1, 1, 4.0, 0), (1, 2, 4.0, 3 * day)])
    assert result_table(profiles_from_ratings(of_old, ITEMS))["days_active"].to_pylist() == [3.0]


def test_fields_carry_their_group_unit_and_role(tmp_path: Path) -> None:
    users = pa.table({"user_id": [1], "age": [30]})
    ratings = ratings_table([(1, 1, 4.0, 0)])
    schema = result_table(profiles_from_ratings(ratings, ITEMS, users)).schema
    expected = {
        "n_ratings": {b"rooms.group": b"activity", b"rooms.unit": b"ratings"},
        "mean_rating": {b"rooms.group": b"activity", b"rooms.unit": b"stars"},
        "rating_sd": {b"rooms.group": b"activity", b"rooms.unit": b"stars", b"rooms.words": b"spread of ratings"},
        "recency": {b"rooms.group": b"activity", b"rooms.unit": b"days", b"rooms.words": b"days since the last rating"},
        "share_Drama": {b"rooms.group": b"interests", b"rooms.unit": b"share of ratings", b"rooms.role": b"numeric"},
        "share_1990s": {b"rooms.group": b"interests", b"rooms.unit": b"share of ratings", b"rooms.role": b"numeric"},
        "affinity_Drama": {b"rooms.group": b"interests", b"rooms.unit": b"stars", b"rooms.role": b"numeric"},
        "favourite_decade": {b"rooms.group": b"interests", b"rooms.role": b"ignore"},
        "favourite_genres": {b"rooms.group": b"interests", b"rooms.role": b"ignore"},
        "age": {b"rooms.group": b"demographics"},
    }
    profiles_from_ratings(ratings, ITEMS, users, out=tmp_path / "p.parquet")
    written = pq.read_schema(tmp_path / "p.parquet")
    for name, metadata in expected.items():
        assert schema.field(name).metadata == metadata
        assert metadata.items() <= written.field(name).metadata.items()

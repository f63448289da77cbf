"""MovieLens formats: tiny files of every release, and profiles of the 100K release compared with pandas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from engine.errors import IdColumnError, SourceFormatError
from engine.ratings.build import profiles_from_ratings
from engine.ratings.movielens import GENRES_100K, read_rating_batches

RATINGS = [(1, 10, 5.0, 86400), (1, 11, 3.0, 0), (2, 10, 1.0, 86400 * 3)]


def profile_rows(*arguments: Any, **options: Any) -> list[dict[str, Any]]:
    table = profiles_from_ratings(*arguments, **options).table
    assert table is not None
    return table.to_pylist()


def write_1m(folder: Path, encoding: str = "latin-1") -> tuple[Path, Path, Path]:
    ratings, movies, users = folder / "ratings.dat", folder / "movies.dat", folder / "users.dat"
    ratings.write_text("".join(f"{u}::{i}::{r:g}::{t}\n" for u, i, r, t in RATINGS))
    movies.write_text("10::Cité: La Haine, (1995)::Drama|War\n11::M::A (1931)::(no genres listed)\n", encoding=encoding)
    users.write_text("1::F::1::10::48067\n2::M::56::16::02139\n")
    return ratings, movies, users


def check_two_profiles(rows: list[dict[str, Any]]) -> None:
    """Values worked by hand from RATINGS: item 10 is Drama and War of 1995, item 11 of 1931 has no genre."""
    first, second = rows
    assert (first["user_id"], first["n_ratings"], first["mean_rating"], first["rating_sd"]) == (1, 2, 4.0, 1.0)
    assert (first["recency"], first["days_active"], second["recency"], second["days_active"]) == (2.0, 1.0, 0.0, 0.0)
    assert [first[f"share_{name}"] for name in ("Drama", "War", "1930s", "1990s")] == [0.5] * 4
    assert first["affinity_Drama"] == pytest.approx((5 - 4) * 1 / (1 + 5))
    assert (second["affinity_Drama"], second["share_Drama"]) == (0.0, 1.0)
    assert (first["favourite_decade"], second["favourite_decade"]) == ("1930s", "1990s")
    assert first["favourite_genres"] == second["favourite_genres"] == ["Drama", "War"]


def test_the_1m_release_has_words_for_codes(tmp_path: Path) -> None:
    rows = profile_rows(*write_1m(tmp_path))
    check_two_profiles(rows)
    columns = ("gender", "age_group", "occupation", "zip_code")
    assert [rows[0][name] for name in columns] == ["F", "under 18", "K-12 student", "48067"]
    assert [rows[1][name] for name in columns] == ["M", "56+", "self-employed", "02139"]


def test_the_10m_release_is_utf_8_and_has_no_users(tmp_path: Path) -> None:
    ratings, movies, _ = write_1m(tmp_path, "utf-8")
    check_two_profiles(profile_rows(ratings, movies))


def test_the_25m_release_is_a_table(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n" + "".join(f"{u},{i},{r},{t}\n" for u, i, r, t in RATINGS)
    )
    (tmp_path / "movies.csv").write_text(
        'movieId,title,genres\n10,"Cité, La ""Haine"" (1995)",Drama|War\n11,M (1931),(no genres listed)\n'
    )
    check_two_profiles(profile_rows(tmp_path / "ratings.csv", tmp_path / "movies.csv"))


@pytest.mark.parametrize("genre_file", [True, False])
def test_the_100k_release_has_flags_for_genres(tmp_path: Path, genre_file: bool) -> None:
    ratings, items, users = tmp_path / "u.data", tmp_path / "u.item", tmp_path / "u.user"
    ratings.write_text("".join(f"{u}\t{i}\t{r:g}\t{t}\n" for u, i, r, t in RATINGS))
    flags = {10: {"Drama", "War"}, 11: {"unknown"}}
    titles = {10: "Misérables, Les (1995)", 11: "M (1931)"}
    lines = [f"{i}|{titles[i]}|||url|" + "|".join(str(int(name in flags[i])) for name in GENRES_100K) for i in (10, 11)]
    items.write_text("\n".join(lines) + "\n", encoding="latin-1")
    users.write_text("1|24|M|technician|85711\n2|53|F|other|02139\n")
    if genre_file:
        (tmp_path / "u.genre").write_text("\n".join(f"{name}|{i}" for i, name in enumerate(GENRES_100K)) + "\n\n")
    rows = profile_rows(ratings, items, users)
    check_two_profiles(rows)
    assert "share_unknown" not in rows[0]
    assert (rows[1]["age"], rows[1]["gender"], rows[1]["occupation"], rows[1]["zip_code"]) == (
        53,
        "F",
        "other",
        "02139",
    )


def test_ratings_stream_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.ratings.movielens._BYTES_PER_READ", 101)
    path = tmp_path / "ratings.dat"
    path.write_text("".join(f"{i}::{i + 1}::3.5::{i + 2}\n" for i in range(500)) + "\n" * 300)
    batches = list(read_rating_batches(str(path), "::"))
    assert len(batches) > 50
    whole = pa.Table.from_batches(batches)
    assert whole["user_id"].to_pylist() == list(range(500))
    assert whole["timestamp"].to_pylist() == list(range(2, 502))
    assert set(whole["rating"].to_pylist()) == {3.5}


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@pytest.mark.parametrize("broken", ["7::1::x::2", "7::1::2", "7::1::3::2::4", "7::1::3::9223372036854775808"])
def test_a_broken_line_has_its_number_wherever_it_is(
    tmp_path: Path, broken: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.ratings.movielens._BYTES_PER_READ", 101)
    path = tmp_path / "ratings.dat"
    lines = [f"{i}::{i + 1}::3.5::{i + 2}" for i in range(1500)]
    path.write_text((end or "\n").join([*lines, broken]) + end)
    with pytest.raises(SourceFormatError, match="line 1,501 does not hold"):
        list(read_rating_batches(str(path), "::"))


def test_a_broken_line_is_named_without_its_values(tmp_path: Path) -> None:
    ratings, movies, users = write_1m(tmp_path)
    ratings.write_text("1::10::5::1\n1::11::secret::2\n")
    with pytest.raises(SourceFormatError, match="does not hold user, item, rating and time") as error:
        profiles_from_ratings(ratings, movies)
    assert "secret" not in str(error.value)
    ratings.write_text("1::10::5::1\n1::11::2\n")
    with pytest.raises(SourceFormatError, match="does not hold user, item, rating and time"):
        profiles_from_ratings(ratings, movies)
    write_1m(tmp_path)
    movies.write_text("10::A (1995)::Drama\n11::B\n")
    with pytest.raises(SourceFormatError, match=r"movies\.dat: line 2 has 1 fields, but 3 were expected"):
        profiles_from_ratings(ratings, movies)
    write_1m(tmp_path)
    users.write_text("1::F::1::10::48067\n2::M::57::16::02139\n")
    with pytest.raises(SourceFormatError, match=r"1 of 2 users have a code of age group or occupation"):
        profiles_from_ratings(ratings, movies, users)
    users.write_text("1::F::1::10::48067\n1::M::56::16::02139\n")
    with pytest.raises(IdColumnError, match="1 of 2 rows have one seen before"):
        profiles_from_ratings(ratings, movies, users)


@pytest.fixture(scope="module")
def frames(shared_data: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    folder = shared_data / "ml-100k"
    ratings = pd.read_csv(folder / "u.data", sep="\t", names=["user", "item", "rating", "time"])
    columns = ["item", "title", "released", "video", "url", *GENRES_100K]
    items = pd.read_csv(folder / "u.item", sep="|", names=columns, encoding="latin-1")
    items["year"] = items["title"].str.extract(r"\((\d{4})\)")[0].astype(float)
    return ratings.merge(items, on="item"), items


def test_profiles_of_movielens_100k_are_those_of_a_pandas_groupby(
    shared_data: Path, frames: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    folder = shared_data / "ml-100k"
    result = profiles_from_ratings(folder / "u.data", folder / "u.item", folder / "u.user")
    assert (result.n_users, result.n_items) == (943, 1682)
    assert (result.n_ratings_read, result.n_ratings_used) == (100_000, 100_000)
    assert result.table is not None
    profiles = result.table.to_pandas().set_index("user_id")
    rated, _ = frames
    users = rated.groupby("user")
    mean, size = users["rating"].mean(), users.size()
    assert profiles.index.tolist() == size.index.tolist()
    assert profiles["n_ratings"].tolist() == size.tolist()
    np.testing.assert_allclose(profiles["mean_rating"], mean, rtol=1e-14)
    np.testing.assert_allclose(profiles["rating_sd"], users["rating"].std(ddof=0), rtol=1e-12)
    last = users["time"].max()
    np.testing.assert_allclose(profiles["recency"], (rated["time"].max() - last) / 86400, rtol=1e-14)
    np.testing.assert_allclose(profiles["days_active"], (last - users["time"].min()) / 86400, rtol=1e-14)
    for genre in GENRES_100K[1:]:
        inside = rated[rated[genre] == 1].groupby("user")["rating"]
        n = inside.size().reindex(size.index, fill_value=0)
        np.testing.assert_allclose(profiles[f"share_{genre}"], n / size, rtol=1e-14)
        affinity = (inside.mean() - mean).fillna(0) * n / (n + 5)
        np.testing.assert_allclose(profiles[f"affinity_{genre}"], affinity, atol=1e-12)
    decades = rated.assign(decade=rated["year"] // 10 * 10).groupby(["user", "decade"]).size().unstack(fill_value=0)
    for decade in decades:
        np.testing.assert_allclose(profiles[f"share_{int(decade)}s"], decades[decade] / size, rtol=1e-14)
    assert profiles["favourite_decade"].tolist() == [f"{int(decade)}s" for decade in decades.idxmax(axis=1)]
    counts = rated.groupby("user")[GENRES_100K[1:]].sum()
    top = [sorted(row.index, key=lambda genre: (-row[genre], genre))[:3] for _, row in counts.iterrows()]
    assert [list(genres) for genres in profiles["favourite_genres"]] == top
    users_frame = pd.read_csv(
        folder / "u.user", sep="|", names=["user", "age", "gender", "occupation", "zip"], dtype={"zip": str}
    )
    assert profiles["age"].tolist() == users_frame["age"].tolist()
    assert profiles["occupation"].tolist() == users_frame["occupation"].tolist()
    assert profiles["zip_code"].tolist() == users_frame["zip"].tolist()


def test_a_catalogue_keeps_only_the_ratings_of_its_titles(
    shared_data: Path, frames: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    folder = shared_data / "ml-100k"
    catalogue = shared_data / "netflix_titles.csv"
    result = profiles_from_ratings(folder / "u.data", folder / "u.item", folder / "u.user", catalogue=catalogue)
    assert result.catalogue is not None
    assert result.table is not None
    assert result.catalogue.n_rows == 8807
    assert result.catalogue.n_rated_titles == 1682
    assert result.n_ratings_used == result.catalogue.n_matched_ratings
    # A rated item that matches literally, in title and year, must be in; the normal form may add more.
    offered = pd.read_csv(catalogue)
    pairs = set(zip(offered["title"].str.lower(), offered["release_year"], strict=True))
    rated, items = frames
    plain = items["title"].str.replace(r"\s*\(\d{4}\)\s*$", "", regex=True).str.lower()
    literal = items["item"][[pair in pairs for pair in zip(plain, items["year"], strict=True)]]
    assert 70 < len(literal) <= result.catalogue.n_matched_titles < 120
    assert result.n_ratings_used >= rated["item"].isin(literal).sum()
    assert result.table["n_ratings"].to_numpy().sum() == result.n_ratings_used
    assert any("of 1,682 rated titles" in note for note in result.notes)

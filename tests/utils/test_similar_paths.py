"""A path that is not there suggests the most similar name in its folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from engine.config import FitConfig, GateConfig
from engine.errors import RoomsError
from engine.ratings.catalogue import read_catalogue
from engine.ratings.readers import open_ratings
from engine.run import Run
from engine.tables.databases.query import Query
from engine.tables.file_table import open_table
from engine.utils.similar_paths import suggest_path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("members.parquet", "ratings.csv", ".membres.parquet"):
        (tmp_path / name).touch()
    (tmp_path / "today").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("membres.parquet", "members.parquet"), ("Ratings.csv", "ratings.csv"), ("toady/", "today")],
)
def test_the_most_similar_name_of_the_folder_is_suggested(folder: Path, wrong: str, meant: str) -> None:
    assert suggest_path(f"{folder}/{wrong}") == f"did you mean {folder / meant}?"


def test_a_name_in_the_current_folder_is_suggested_as_it_would_be_typed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert suggest_path("membres.parquet") == "did you mean members.parquet?"


@pytest.mark.parametrize("path", ["{0}/ratings.csv", "{0}/xyz", "{0}/nowhere/ratings.csv", "s3://bucket/key", "a\0b"])
def test_nothing_is_suggested_for_what_exists_or_resembles_nothing(folder: Path, path: str) -> None:
    assert suggest_path(path.format(folder)) is None


@pytest.mark.parametrize(
    ("meant", "read"),
    [
        ("members.parquet", open_table),
        ("u.data", open_ratings),
        ("catalogue.csv", read_catalogue),
        ("members.duckdb", lambda path: next(Query(f"duckdb:///{path}", "SELECT 1").batches())),
        ("settings.yaml", FitConfig.read),
        ("limits.yaml", GateConfig.read),
        ("today", Run),
    ],
)
def test_whatever_reads_a_path_suggests_the_one_that_was_meant(
    tmp_path: Path, meant: str, read: Callable[[Path], object]
) -> None:
    (tmp_path / meant).touch()
    with pytest.raises(RoomsError) as raised:
        read(tmp_path / f"x{meant}")
    assert raised.value.hint == f"did you mean {tmp_path / meant}?"

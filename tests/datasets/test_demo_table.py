"""The generated members: the same rows for the same seed, at any size and in any number of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.datasets.communities import NAMES, SHARES
from engine.datasets.demo_table import N_COMMUNITIES, DemoMembers, write_demo
from engine.datasets.draw_members import ROWS_PER_DRAW, SCHEMA
from engine.errors import OutputExistsError, UsageError
from engine.execution.threads import threads

N = ROWS_PER_DRAW + 500  # crosses the end of a draw


def read_members(n_rows: int, **options: int) -> pa.Table:
    return pa.concat_tables([block.rows for block in DemoMembers(n_rows, **options).blocks()])


@pytest.fixture(scope="module")
def members() -> pa.Table:
    return read_members(N)


@pytest.fixture(scope="module")
def planted() -> pa.Table:
    return pa.concat_tables(list(DemoMembers(N).planted()))


def test_a_shorter_table_is_the_beginning_of_a_longer_one(members: pa.Table) -> None:
    for n_rows in (1, 1000, ROWS_PER_DRAW - 1, ROWS_PER_DRAW, ROWS_PER_DRAW + 1):
        assert read_members(n_rows).equals(members.slice(0, n_rows))


def test_threads_do_not_change_a_row_and_seeds_do(members: pa.Table) -> None:
    with threads(1):
        assert read_members(N).equals(members)
    assert not read_members(1000, seed=1).equals(members.slice(0, 1000))


def test_columns_have_types_groups_and_an_id_that_floats_cannot_hold(members: pa.Table) -> None:
    assert members.schema.equals(SCHEMA, check_metadata=True)
    assert "community" not in members.schema.names
    ids = members["user_id"].to_numpy()
    assert len(np.unique(ids)) == N
    assert (ids > 2**53).mean() > 0.9
    groups = {field.metadata[b"rooms.group"] for field in SCHEMA if field.name != "user_id"}
    assert groups == {b"interests", b"activity", b"demographics"}
    assert members["favourite_genres"].type == pa.list_(pa.string())
    lengths = {len(genres) for genres in members["favourite_genres"].to_pylist() if genres is not None}
    assert lengths == {1, 2, 3, 4, 5}


def test_communities_have_the_shares_they_were_planted_with(members: pa.Table, planted: pa.Table) -> None:
    assert planted["user_id"].equals(members["user_id"])
    names = np.array(planted["community"].to_pylist())
    assert len(NAMES) == N_COMMUNITIES == len(set(names))
    for name, share in zip(NAMES, SHARES, strict=True):
        assert (names == name).mean() == pytest.approx(share, abs=5 * np.sqrt(share / N))


def test_values_are_missing_and_more_often_in_some_communities(members: pa.Table, planted: pa.Table) -> None:
    names = np.array(planted["community"].to_pylist())
    missing = members["age"].is_null().to_numpy()
    assert 0.01 < missing.mean() < 0.12
    assert missing[names == "night-owl anime fans"].mean() > 3 * missing[names == "family movie nights"].mean()
    assert members["user_id"].null_count == members["plan"].null_count == 0


def test_hours_have_a_heavy_tail(members: pa.Table) -> None:
    hours = members["weekly_hours"].to_numpy()
    assert hours.max() > 5 * np.median(hours)
    assert hours.mean() > 1.15 * np.median(hours)


def test_files_do_not_change_rows(members: pa.Table, tmp_path: Path) -> None:
    for n_files in (1, 7):
        paths = write_demo(tmp_path / str(n_files), N, n_files=n_files)
        assert len(list(paths.members.iterdir())) == n_files
        assert pq.read_table(paths.members).equals(members)
        assert pq.read_table(paths.planted)["user_id"].equals(members["user_id"])


def test_files_store_what_repeats_once(tmp_path: Path) -> None:
    group = pq.ParquetFile(next(write_demo(tmp_path, N).members.iterdir())).metadata.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    plain = [column.path_in_schema for column in columns if "RLE_DICTIONARY" not in column.encodings]
    assert plain == ["user_id", "has_kids_profile", "marketing_opt_in"]


def test_an_earlier_demo_is_replaced_only_if_wanted_and_nothing_else_ever(tmp_path: Path) -> None:
    write_demo(tmp_path, 300, n_files=3)
    with pytest.raises(OutputExistsError):
        write_demo(tmp_path, 100)
    paths = write_demo(tmp_path, 100, overwrite=True)
    assert [path.name for path in paths.members.iterdir()] == ["part-00000.parquet"]
    (paths.members / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputExistsError):
        write_demo(tmp_path, 100, overwrite=True)
    assert (paths.members / "thesis.txt").exists()


def test_what_cannot_be_drawn_is_refused() -> None:
    for options in ({"n_rows": 0}, {"n_rows": 5, "seed": -1}, {"n_rows": 5, "n_communities": 13}):
        with pytest.raises(UsageError):
            DemoMembers(**options)

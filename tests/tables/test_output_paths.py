"""Tests of output paths: what overlaps an input, is a URL, or is a link to nothing is refused before any work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import OutputExistsError, OutputOverlapError, UsageError
from engine.tables.output_paths import check_apart, check_new_file, local_path
from engine.tables.source_paths import find_files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, with data/part-0.parquet, data/_old/, other/, and a link to each of both."""
    monkeypatch.chdir(tmp_path)
    for name in ("data/_old", "other"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "data" / "part-0.parquet").write_bytes(b"data")
    (tmp_path / "other" / "real.parquet").write_bytes(b"data")
    (tmp_path / "data" / "linked.parquet").symlink_to("../other/real.parquet")
    (tmp_path / "link").symlink_to("data")
    return tmp_path


@pytest.mark.parametrize(
    ("out", "source", "relation"),
    [
        ("data/part-0.parquet", "data/part-0.parquet", "is"),
        ("data/part-0.parquet", "link/part-0.parquet", "is"),
        ("link/part-0.parquet", "data/*.parquet", "is"),
        ("data/part-0.parquet", "file://{here}/data/part-0.parquet", "is"),
        ("data", "data/part-0.parquet", "holds"),
        ("link", "data/part-0.parquet", "holds"),
        ("data", "data", "is"),
        (".", "data", "holds"),
        ("data/part-1.parquet", "data", "lies in"),
        ("data/runs/today", "link", "lies in"),
        ("other/real.parquet", "data/linked.parquet", "is"),
        ("other/real.parquet", "data", "is"),
        ("other", "data", "holds"),
    ],
)
def test_an_output_that_overlaps_an_input_is_refused_naming_both(
    folder: Path, out: str, source: str, relation: str
) -> None:
    source = source.format(here=folder)
    for sources in ((source,), (None, [source]), ("other2/x.parquet", Path(source) if ":" not in source else source)):
        with pytest.raises(OutputOverlapError, match=f"^The output {out} {relation} the input ") as caught:
            check_apart(Path(out), *sources)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("out", "source"),
    [
        ("data/part-1.parquet", "data/part-0.parquet"),
        ("data2", "data"),
        ("other/new.parquet", "data"),
        ("data/_old/run", "data"),  # hidden folders are not read
        ("data/part-0.parquet", "s3://bucket/data/part-0.parquet"),
        ("data/part-0.parquet", "none/part-0.parquet"),
    ],
)
def test_an_output_beside_the_input_is_fine(folder: Path, out: str, source: str) -> None:
    check_apart(Path(out), source, None, pa.table({"x": [1]}))


@pytest.mark.parametrize("out", ["s3://bucket/run", "gs://bucket", "file:///tmp/run", "abfs+x://a@b/c"])
@pytest.mark.parametrize("kind", [str, Path])
def test_a_url_is_no_output(out: str, kind: Callable[[str], str | Path]) -> None:
    with pytest.raises(UsageError, match="is a URL, but results are written to local folders"):
        local_path(kind(out))


@pytest.mark.parametrize("out", ["run:today", "nightly-2026-11-29T22:00/run", "~/run", "a/b:/c", "C:/run"])
def test_colons_and_tildes_are_letters_of_names(out: str) -> None:
    assert local_path(out) == Path(out)


def test_a_link_to_nothing_is_no_output(tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to("gone")
    with pytest.raises(OutputExistsError, match="run is a link to gone, which is not there"):
        local_path(tmp_path / "run")
    (tmp_path / "gone").mkdir()
    assert local_path(tmp_path / "run") == tmp_path / "run"


def test_a_file_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file cannot be written: "):
        check_new_file(tmp_path / "file" / "out.parquet", overwrite=False)
    with pytest.raises(UsageError, match="is a folder, but the table is one file"):
        check_new_file(tmp_path, overwrite=True)
    check_new_file(tmp_path / "new" / "out.parquet", overwrite=False)
    assert list((tmp_path / "new").iterdir()) == []


def test_a_file_with_a_bracket_in_its_name_is_no_glob(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), tmp_path / "a[1].parquet")
    assert find_files([str(tmp_path / "a[1].parquet")]).paths == (str(tmp_path / "a[1].parquet"),)

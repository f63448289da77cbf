"""Folders whose log says which files are the table are refused by name, whichever way they are given."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import SourceFormatError
from engine.tables import open_table
from engine.tables.lake_tables import LakeFilesWarning

LOGS = {
    "a Delta Lake table": "_delta_log/00000000000000000000.json",
    "an Apache Iceberg table": "metadata/00001-5f8d.metadata.json",
    "an Apache Hudi table": ".hoodie/hoodie.properties",
    "an Apache Paimon table": "snapshot/snapshot-1",
    "a DuckLake table with deleted rows": "ducklake-019a1b2c-77f0-7c3d-8e4f-0a1b2c3d4e5f-delete.parquet",
    "a Hive table with transactions": "delete_delta_0000002_0000002_0000/bucket_00000",
}
REMEDIES = ("deltalake", "pyiceberg", "Spark", "DuckDB")


def write_lake_table(folder: Path, log: str, inner: str) -> Path:
    (folder / inner).mkdir(parents=True)
    path = folder / inner / "part.parquet"
    pq.write_table(pa.table({"x": [1.0, 2.0]}), path)
    (folder / log).parent.mkdir(parents=True, exist_ok=True)
    (folder / log).touch()
    return path


@pytest.mark.parametrize("inner", ["", "data/day=1", "bucket-0", "delta_0000001_0000001_0000"])
@pytest.mark.parametrize("name", list(LOGS))
def test_a_lake_table_is_refused_with_what_reads_it(name: str, inner: str, tmp_path: Path) -> None:
    folder = tmp_path / "lake" / "people"
    path = write_lake_table(folder, LOGS[name], inner)
    kind = rf"people is {'a Hive' if inner.startswith('delta') and 'Hive' in name else name}"
    for source in (folder, folder.parent, f"{path.parent}/*.parquet", f"{folder}/**/*.parquet"):
        with pytest.raises(SourceFormatError, match=r"people is an? .*rows that were replaced or deleted") as caught:
            open_table(source)
        if not inner.startswith("delta"):
            assert kind in str(caught.value)
        assert any(remedy in (caught.value.hint or "") for remedy in REMEDIES)
    with pytest.warns(LakeFilesWarning, match=r"part\.parquet is a file of an? "):
        assert open_table(path).n_rows == 2  # a file that is named may come from the log
    pq.write_table(pa.table({"x": [1.0, 2.0]}), path.with_name("deleted.parquet"))
    with pytest.warns(LakeFilesWarning):
        assert open_table([path]).n_rows == 2
    with pytest.raises(SourceFormatError, match=r"rows that were replaced or deleted"):
        open_table(sorted(path.parent.glob("*.parquet")))  # as a shell writes a glob out


def test_a_partition_of_a_lake_table_is_refused(tmp_path: Path) -> None:
    write_lake_table(tmp_path / "people", LOGS["a Delta Lake table"], "year=2024/month=1")
    with pytest.raises(SourceFormatError, match=r"people is a Delta Lake table"):
        open_table(tmp_path / "people" / "year=2024" / "month=1")


def test_a_lake_table_on_another_filesystem_is_refused() -> None:
    filesystem = fsspec.filesystem("memory")
    for name in ("part.parquet", "_delta_log/0.json"):
        with filesystem.open(f"/lake/people/{name}", "wb") as file:
            pq.write_table(pa.table({"x": [1.0]}), file)
    with pytest.raises(SourceFormatError, match="is a Delta Lake table"):
        open_table("memory://lake/people")


@pytest.mark.parametrize(
    "extra", ["metadata/notes.txt", "delta_force/notes.txt", "data_delta_log/0.json", "delta_20240101/a.txt"]
)
def test_folders_of_similar_names_are_read(extra: str, tmp_path: Path) -> None:
    path = write_lake_table(tmp_path / "people", extra, "")
    assert open_table(path.parent).n_rows == 2
    assert open_table(f"{path.parent}/*.parquet").n_rows == 2

"""Reading files with cuDF and a whole fit on its rows, on stand-ins that check calls against RAPIDS' signatures."""

from __future__ import annotations

import decimal
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

import engine
from engine.backends.cpu import CpuBackend
from engine.backends.gpu import GpuBackend
from engine.config import FitConfig
from engine.features.fit import choose_reader, fit_encoder
from engine.features.gpu_reader import GpuTableReader
from engine.features.host_columns import ArrowColumns
from engine.pipeline.memory_plan import plan_memory
from engine.tables import open_table
from engine.tables.cudf_reader import open_cudf_table
from engine.tables.file_table import FileTable
from tests.features.test_gpu_encoder import ROLES, assert_same, everything
from tests.features.test_gpu_statistics import contents as contents_of
from tests.gpu import frames
from tests.gpu.stand_in import stand_in_gpu
from tests.gpu.strict import StrictArray, StrictModule


@pytest.fixture(autouse=True)
def rapids(monkeypatch: pytest.MonkeyPatch) -> Any:
    with stand_in_gpu(monkeypatch):
        yield


def write(parts: list[pa.Table], folder: Path, kind: str) -> Path:
    folder.mkdir(exist_ok=True)
    for number, part in enumerate(parts):
        path = folder / f"part-{number}.{kind}"
        if kind == "parquet":
            pq.write_table(part, path, row_group_size=50)
        elif kind == "orc":
            pyarrow.orc.write_table(part, path)
        elif kind == "feather":
            pyarrow.feather.write_feather(part, path)
        else:
            part.to_pandas().to_csv(path, index=False)
    return folder


def orc_columns(table: pa.Table) -> pa.Table:
    return table.drop_columns(["seen", "paid"])  # whose times cuDF may read otherwise


@pytest.mark.parametrize("kind", ["parquet", "orc"])
def test_chunks_of_all_files_are_encoded_to_the_bits_of_the_cpu(tmp_path: Path, kind: str) -> None:
    parts = [everything(230, 0), everything(51, 1)]
    source = write(parts if kind == "parquet" else [orc_columns(part) for part in parts], tmp_path / "table", kind)
    table = open_table(str(source))
    features = fit_encoder(table, column_roles=ROLES)
    reader = choose_reader(GpuBackend(), table)
    assert isinstance(reader, GpuTableReader)
    rows = reader.encoded_table(features.encoder)
    assert not isinstance(rows, str)
    start = 0
    whole = pa.concat_tables(block.rows for block in table.blocks())
    for _, run in rows.map(lambda first, run: (first, run), last=True):
        assert isinstance(run.dense, StrictArray)
        assert_same(run, features.encoder.encode_rows(whole.slice(start, len(run.dense))))
        start += len(run.dense)
    assert start == 281


def test_parquet_is_read_with_limits(tmp_path: Path) -> None:
    table = open_table(str(write([everything(40)], tmp_path / "table", "parquet")))
    cudf_table = open_cudf_table(table)
    assert not isinstance(cudf_table, str)
    list(cudf_table.chunks(["age"], 4096))
    assert frames.READER_CALLS[0]["chunk_read_limit"] == 4096  # 0, the default, is no limit
    assert frames.READER_CALLS[0]["pass_read_limit"] == 1 << 30


def test_rows_of_a_chunk_are_sliced_and_taken_as_they_are(tmp_path: Path) -> None:
    rows = everything(40)
    table = open_table(str(write([rows], tmp_path / "table", "parquet")))
    cudf_table = open_cudf_table(table)
    assert not isinstance(cudf_table, str)
    chunk = next(cudf_table.chunks(rows.schema.names, 4096)).slice(2, 6)
    expected = ArrowColumns(next(table.blocks()).rows, StrictModule()).slice(2, 6)
    assert len(chunk) == len(expected) == 4
    np.testing.assert_array_equal(chunk.numbers("age").get(), expected.numbers("age").get())
    for mine, other in zip(chunk.integers("rank"), expected.integers("rank"), strict=True):
        np.testing.assert_array_equal(mine.get(), other.get())
    taken = chunk.take(["plan", "genres", "rank"], np.array([1, 3]))
    assert [column.to_pylist() for column in taken] == [
        column.to_pylist() for column in expected.take(["plan", "genres", "rank"], np.array([1, 3]))
    ]


LEAN = FitConfig.merge({}, skip=["explain", "map", "report"], features={"roles": ROLES})


def contents(run: engine.Run) -> dict[str, bytes]:
    paths = [*run.path.glob("assignments/*"), *run.path.glob("model/*"), run.path / "clusters.parquet"]
    return {path.name: path.read_bytes() for path in paths}


@pytest.mark.parametrize("kind", ["in memory", "streamed"])
def test_a_fit_reads_encodes_and_clusters_on_the_gpu_and_finds_what_the_cpu_finds(tmp_path: Path, kind: str) -> None:
    source = write([everything(1500, 0), everything(700, 1)], tmp_path / "table", "parquet")
    schema = open_table(str(source)).schema
    keeping_none = LEAN.model_copy(update={"memory": 1})
    needed = plan_memory(2200, schema, keeping_none, streamed=True, n_features=80).memory_bytes
    memory = needed if kind == "streamed" else None
    runs = [
        engine.fit(
            source, out=tmp_path / device, n_clusters=5, device=device, config=LEAN, memory=memory, algorithm="lloyd"
        )
        for device in ("cuda", "cpu")
    ]
    assert [run.manifest["plan"]["kind"] for run in runs] == [kind] * 2
    on_gpu, on_cpu = (run.manifest for run in runs)
    assert (on_gpu["device"], on_gpu["computed_by"]["read"]["library"]) == ("cuda", "cuDF")
    assert (on_cpu["device"], on_cpu["computed_by"]["read"]["library"]) == ("cpu", "pyarrow")
    labels = [run.assignments["cluster"].to_numpy() for run in runs]
    assert (labels[0] == labels[1]).mean() >= 0.9999
    gpu_model, cpu_model = (engine.load(run.path) for run in runs)
    np.testing.assert_allclose(gpu_model.pca.components_, cpu_model.pca.components_, atol=1e-9)
    np.testing.assert_allclose(gpu_model.centers, cpu_model.centers, atol=1e-4)


def test_the_host_reads_the_first_block_and_ids_to_write_and_all_files_are_those_of_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = everything(900).append_column("who", pa.array(range(900)))
    source = write([rows], tmp_path / "table", "parquet")
    read, blocks = [], FileTable.blocks

    def recorded(table: FileTable, columns: Any, **options: Any) -> Any:
        if str(tmp_path / "table") in str(table.files.paths):
            read.append(list(columns))
        return blocks(table, columns, **options)

    explain = {"sample_rows": 200, "rows_per_cluster": 100}  # so that more rows are read for some clusters
    config = FitConfig.merge(LEAN.model_dump(), skip=["map", "report"], explain=explain, reproducible=True)
    monkeypatch.setattr(FileTable, "blocks", recorded)
    options: dict[str, Any] = {"id": "who", "n_clusters": 4, "config": config}
    on_gpu = engine.fit(source, out=tmp_path / "cuda", device="cuda", **options)
    assert (len(read), read[1]) == (2, ["who"])  # the block that roles are looked up in, and ids to write
    read.clear()
    on_cpu = engine.fit(source, out=tmp_path / "cpu", device="cpu", **options)
    assert [len(columns) for columns in read].count(len(rows.schema.names) - 1) >= 2  # statistics, more rows
    assert contents(on_gpu) == contents(on_cpu)
    assert on_gpu.manifest["audit"] == on_cpu.manifest["audit"]
    for name in ("rules.json", "rules.sql", "personas.json", "features.json"):
        assert (on_gpu.path / name).read_bytes() == (on_cpu.path / name).read_bytes(), name


def test_the_reader_and_the_place_of_the_scores_do_not_change_a_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write([everything(900)], tmp_path / "table", "parquet")
    options: dict[str, Any] = {"n_clusters": 4, "device": "cuda", "config": LEAN}
    first = engine.fit(source, out=tmp_path / "one", **options)
    monkeypatch.setattr("engine.pipeline.fit.choose_reader", lambda backend, table: "pyarrow, because of this test")
    monkeypatch.setattr(GpuBackend, "allocate_scores", CpuBackend.allocate_scores)
    second = engine.fit(source, out=tmp_path / "two", **options)
    assert second.manifest["computed_by"]["read"] == {"library": "pyarrow", "reason": "of this test"}
    assert contents(first) == contents(second)


def reader_name(source: Any, **options: Any) -> str:
    table = open_table(source)
    reader = choose_reader(GpuBackend(), table)
    rows = reader if isinstance(reader, str) else reader.encoded_table(fit_encoder(table, **options).encoder)
    return rows if isinstance(rows, str) else rows.reader


def test_pyarrow_reads_what_cudf_would_read_otherwise_and_the_reason_is_given(tmp_path: Path) -> None:
    plain = everything(60).select(["age", "plan"])
    assert reader_name(plain) == "pyarrow, because the table is not of files, or has vectors"
    for kind in ("csv", "feather"):
        source = str(write([plain], tmp_path / kind, kind))
        assert reader_name(source) == f"pyarrow, because cuDF does not read {kind} files to the same bits in chunks"
    prices = pa.array([decimal.Decimal(i) / 4 for i in range(60)], pa.decimal128(9, 2))
    source = str(write([plain.append_column("price", prices)], tmp_path / "decimals", "parquet"))
    because = "cuDF and pyarrow, because cuDF does not read column"
    assert reader_name(source) == f"{because} 'price': its type is decimal128(9, 2)"
    assert reader_name(source, column_roles={"price": "ignore"}) == "cuDF"
    alone = str(write([pa.table({"price": prices})], tmp_path / "alone", "parquet"))
    assert reader_name(alone) == "pyarrow, because cuDF does not read column 'price': its type is decimal128(9, 2)"
    times = everything(60).select(["age", "seen"])
    assert reader_name(str(write([times], tmp_path / "times", "parquet"))) == "cuDF"
    assert reader_name(str(write([times], tmp_path / "orc", "orc"))).startswith(
        f"{because} 'seen': its type is timestamp"
    )
    other = plain.set_column(0, "age", plain["age"].cast(pa.float32()))
    source = str(write([plain, other], tmp_path / "mixed", "parquet"))
    assert reader_name(source) == f"{because} 'age': its type is not the same in all files"
    for region in ("north", "south"):
        (tmp_path / "hive" / f"region={region}").mkdir(parents=True)
        write([plain], tmp_path / "hive" / f"region={region}", "parquet")
    assert reader_name(str(tmp_path / "hive")) == f"{because} 'region': it is in the names of the folders"


@pytest.mark.parametrize("kind", ["parquet", "orc"])
def test_statistics_by_cudf_and_columns_of_pyarrow_beside_them_are_those_of_the_cpu(tmp_path: Path, kind: str) -> None:
    parts = [everything(230, 0), everything(51, 1)]  # of ORC, pyarrow reads the times
    prices = pa.array([decimal.Decimal(i) / 8 for i in range(281)], pa.decimal128(9, 3))
    whole = [pa.concat_tables(parts).append_column("cost", prices)]
    table = open_table(str(write(whole, tmp_path / "table", kind)))
    on_cpu = fit_encoder(table, column_roles=ROLES)
    reader = choose_reader(GpuBackend(), table)
    assert isinstance(reader, GpuTableReader)
    features = fit_encoder(table, column_roles=ROLES, reader=reader)
    assert (features.on_device, on_cpu.on_device) == (True, False)
    assert features.encoder.plan == on_cpu.encoder.plan
    assert contents_of(features.statistics) == contents_of(on_cpu.statistics)
    rows = reader.encoded_table(features.encoder)
    assert not isinstance(rows, str)
    encoded = [run for _, run in rows.map(lambda first, run: (first, run), last=True)]
    assert sum(len(run.dense) for run in encoded) == 281
    start = 0
    blocks = pa.concat_tables(block.rows for block in table.blocks())
    for run in encoded:
        assert_same(run, on_cpu.encoder.encode_rows(blocks.slice(start, len(run.dense))))
        start += len(run.dense)


def test_files_that_are_not_on_this_machine_are_read_by_pyarrow() -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    with memory.open("/one.parquet", "wb") as file:
        pq.write_table(everything(30).select(["age", "plan"]), file)
    assert reader_name("memory://one.parquet") == "pyarrow, because the files are not on a local file system"


def test_the_manifest_names_the_reader_of_the_table(tmp_path: Path) -> None:
    source = write([everything(200).select(["age", "plan", "small"])], tmp_path / "table", "csv")
    options: dict[str, Any] = {"n_clusters": 2, "device": "cuda"}
    config = FitConfig.merge({}, skip=["explain", "map", "report"])
    run = engine.fit(source, out=tmp_path / "run", config=config, **options)
    read = json.loads((run.path / "manifest.json").read_text())["computed_by"]["read"]
    assert read["library"] == "pyarrow"
    assert read["reason"].startswith("cuDF does not read csv files")


def test_int96_timestamps_are_left_to_pyarrow(tmp_path: Path) -> None:
    rows = pa.table({"seen": pa.array([1, 2], pa.timestamp("us")), "x": [1.0, 2.0]})
    for name, int96 in (("a", False), ("b", True)):
        pq.write_table(rows, tmp_path / f"{name}.parquet", use_deprecated_int96_timestamps=int96, store_schema=False)
    table = open_cudf_table(open_table(tmp_path))
    assert not isinstance(table, str)
    assert table.unreadable == {"seen": "it is stored as INT96, which cuDF reads as nanoseconds"}

"""What cannot be read is named by file and column, and nobody's values are shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest

from engine.errors import SchemaMismatchError, SourceFormatError
from engine.tables import open_table

ROWS = pa.table({"age": list(range(100)), "plan": ["basic", "plus"] * 50})


@pytest.mark.parametrize("kept", [0, 400])
@pytest.mark.parametrize(
    ("form", "write"), [("parquet", pq.write_table), ("feather", feather.write_feather), ("orc", orc.write_table)]
)
def test_a_later_file_that_is_empty_or_cut_off_is_named(form: str, write: object, kept: int, tmp_path: Path) -> None:
    paths = [tmp_path / f"part-{number}.{form}" for number in range(3)]
    for path in paths:
        write(ROWS, path)  # type: ignore[operator]
    paths[1].write_bytes(paths[1].read_bytes()[:kept])
    with pytest.raises(SourceFormatError, match=rf"part-1\.{form} cannot be read as {form}"):
        open_table(tmp_path)


def test_a_column_of_the_files_that_the_folders_give_as_well_is_named(tmp_path: Path) -> None:
    for kind in (pa.int64(), pa.int32()):
        for band in (1, 2):
            (tmp_path / f"band={band}").mkdir(exist_ok=True)
            rows = ROWS.append_column("band", pa.array([band] * 100, kind))
            pq.write_table(rows, tmp_path / f"band={band}" / "a.parquet")
        with pytest.raises(
            SchemaMismatchError, match=r"Column 'band' is in .*band=1/a\.parquet, and in the names of the"
        ):
            open_table(tmp_path)


def test_columns_of_one_name_are_named(tmp_path: Path) -> None:
    pq.write_table(ROWS.append_column("age", ROWS["age"]), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("age,plan,age\n1,x,2\n")
    for path in (tmp_path / "a.parquet", tmp_path / "a.csv"):
        with pytest.raises(SchemaMismatchError, match=rf"{path.name} has several columns named 'age'"):
            open_table(path)
    frame = ROWS.to_pandas()
    for table in (ROWS.append_column("age", ROWS["age"]), pd.concat([frame, frame[["age"]]], axis=1)):
        with pytest.raises(SchemaMismatchError, match="The data frame has several columns named 'age'"):
            open_table(table)


def test_columns_that_arrow_cannot_hold_are_named_without_their_values() -> None:
    frame = pd.DataFrame({"age": [1, 2], "note": [1, "secret"], "z": [1j, 2j]})
    with pytest.raises(SourceFormatError) as caught:
        open_table(frame)
    assert "'note' (object); 'z' (complex128)" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_sparse_columns_of_pandas_are_named() -> None:
    frame = pd.DataFrame({"age": [1, 2], "plan": pd.arrays.SparseArray(np.array([0, 1]))})
    with pytest.raises(SourceFormatError, match=r"'plan' \(Sparse"):
        open_table(frame)

"""Refuse folders that are lake tables: Delta Lake, Apache Iceberg, Apache Hudi, and Hive tables with transactions.

    the files of a folder, or folders  ->  SourceFormatError, or nothing

The files of such a table are not the table: its log says which of them are, and which of their rows are deleted. Read
file by file, rows that were replaced or deleted would come back. Files that are named may come from the log: they are
read with a warning, unless they are all that is there, as where a shell wrote a glob out.
"""

from __future__ import annotations

import posixpath
import re
import warnings
from collections.abc import Iterable
from typing import NamedTuple, NoReturn

import fsspec

from engine.errors import SourceFormatError


class LakeFilesWarning(UserWarning):
    """Warns of files that are read as they are, though they belong to a table with a log."""


class LakeFormat(NamedTuple):
    """A table format with a log: what the log's files are called below the table's folder, and how to read it."""

    name: str
    log: re.Pattern[str]  # matches the path of a log file, relative to the folder of the table
    marks: tuple[str, ...]  # globs, relative to the folder, one of which finds something in every such table
    remedy: str


# Folder of one write of a Hive table, by the numbers of its transactions.
_HIVE_WRITE = r"(base_\d{7}(_v\d+)?|(delete_)?delta_\d{7}_\d{7}(_\d{4})?(_v\d+)?)"
LAKE_FORMATS = (
    LakeFormat(
        "a Delta Lake table",
        re.compile(r"_delta_log/[^/]+"),
        ("_delta_log",),
        "read it with deltalake, and fit the result in Python: "
        "engine.fit(deltalake.DeltaTable({folder!r}).to_pyarrow_table(), …)",
    ),
    LakeFormat(
        "an Apache Iceberg table",
        re.compile(r"metadata/([^/]+\.metadata\.json|version-hint\.text|snap-[^/]+\.avro)"),
        ("metadata/*.metadata.json", "metadata/version-hint.text"),
        "read it with pyiceberg, and fit the result in Python: "
        "engine.fit(pyiceberg.table.StaticTable.from_metadata('….metadata.json').scan().to_arrow(), …)",
    ),
    LakeFormat(
        "an Apache Hudi table",
        re.compile(r"\.hoodie/.+"),
        (".hoodie",),
        "export it with Spark: spark.read.format('hudi').load({folder!r}).write.parquet(…)",
    ),
    LakeFormat(
        "an Apache Paimon table",
        re.compile(r"snapshot/(snapshot-\d+|LATEST|EARLIEST)"),
        ("snapshot/snapshot-*",),
        "read it with pypaimon, or export it with Spark or Flink, and fit the result",
    ),
    LakeFormat(
        "a DuckLake table with deleted rows",
        re.compile(r"ducklake-[0-9a-f-]+-delete\.parquet"),
        ("ducklake-*-delete.parquet",),
        "write it to a file with DuckDB: COPY (SELECT * FROM …) TO 'table.parquet'",
    ),
    LakeFormat(
        "a Hive table with transactions",
        re.compile(rf"{_HIVE_WRITE}/[^/]+"),
        (f"base_{'[0-9]' * 7}", f"base_{'[0-9]' * 7}_v*", f"*delta_{'[0-9]' * 7}_{'[0-9]' * 7}*"),
        "export it with Hive or Spark: CREATE TABLE … STORED AS PARQUET AS SELECT * FROM …",
    ),
)
# Folders of a lake table below its own: partitions, and Iceberg's data/.
_INNER_FOLDER = re.compile(rf"[^/]+=[^/]*|\d+|data|bucket-\d+|{_HIVE_WRITE}")


def refuse_lake_listing(folder: str, paths: Iterable[str]) -> None:
    """Raise SourceFormatError if the files found below a folder are those of lake tables, its own or deeper ones."""
    for path in paths:
        relative = path[len(folder) :].lstrip("/")
        for lake in LAKE_FORMATS:
            match = lake.log.search(relative)
            if match is not None and (match.start() == 0 or relative[match.start() - 1] == "/"):
                _refuse(posixpath.join(folder, relative[: match.start()]).rstrip("/"), lake)


def refuse_lake_folders(filesystem: fsspec.AbstractFileSystem, folders: Iterable[str]) -> None:
    """Raise SourceFormatError if one of the folders is a lake table, or a partition inside of one."""
    for folder in sorted({_table_folder(folder) for folder in folders}):
        lake = _find_lake(filesystem, folder)
        if lake is not None:
            _refuse(folder, lake)


def check_named_files(filesystem: fsspec.AbstractFileSystem, paths: Iterable[str]) -> None:
    """Check files that were named one by one: do they lie in a lake table?

    Raises
    ------
    SourceFormatError
        If they are several, and all that lie in a folder of a lake table.

    Warns
    -----
    LakeFilesWarning
        If they are other files of a lake table.
    """
    if "http" in filesystem.protocol:  # it has no folders
        return
    by_folder: dict[str, list[str]] = {}
    for path in paths:
        by_folder.setdefault(posixpath.dirname(path), []).append(path)
    for folder, named in by_folder.items():
        lake = _find_lake(filesystem, _table_folder(folder))
        if lake is None:
            continue
        others = {posixpath.basename(path) for path in filesystem.ls(folder, detail=False)}
        ending = posixpath.splitext(named[0])[1]
        alike = {name for name in others if name.endswith(ending) and not name.startswith(("_", "."))}
        if len(named) > 1 and alike <= {posixpath.basename(path) for path in named}:
            _refuse(_table_folder(folder), lake)
        warnings.warn(
            f"{named[0]} is a file of {lake.name}: it is read as it is, with rows that the table's log has deleted.",
            LakeFilesWarning,
            stacklevel=2,
        )


def _find_lake(filesystem: fsspec.AbstractFileSystem, folder: str) -> LakeFormat | None:
    for lake in LAKE_FORMATS:
        if any(_is_there(filesystem, posixpath.join(folder, mark)) for mark in lake.marks):
            return lake
    return None


def _table_folder(folder: str) -> str:
    """Return the folder of the table that a folder may be a partition of."""
    folder = folder.rstrip("/")
    while _INNER_FOLDER.fullmatch(posixpath.basename(folder)):
        folder = posixpath.dirname(folder)
    return folder


def _is_there(filesystem: fsspec.AbstractFileSystem, path: str) -> bool:
    return bool(filesystem.glob(path)) if any(mark in path for mark in "*[") else bool(filesystem.isdir(path))


def _refuse(folder: str, lake: LakeFormat) -> NoReturn:
    raise SourceFormatError(
        f"{folder} is {lake.name}: read file by file, rows that were replaced or deleted would come back.",
        hint=f"{lake.remedy.format(folder=folder)}.",
    )

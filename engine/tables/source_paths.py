"""Resolve the sources that a user names into the files of one table.

files, folders, globs, URLs  ->  SourceFiles: paths of one format, in natural order
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from engine.errors import SourceFormatError, SourceNotFoundError, UsageError
from engine.tables.databases.address import hide_url, is_database_url
from engine.tables.lake_tables import check_named_files, refuse_lake_folders, refuse_lake_listing
from engine.utils.similar_paths import suggest_path

FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".csv.gz": "csv",
    ".tsv": "csv",
    ".tsv.gz": "csv",
    ".feather": "feather",
    ".arrow": "feather",
    ".ipc": "feather",
    ".orc": "orc",
    ".sav": "spss",
    ".zsav": "spss",
    ".dta": "stata",
    ".sas7bdat": "sas",
    ".xpt": "xport",
    ".xlsx": "spreadsheet",
    ".xlsm": "spreadsheet",
    ".xlsb": "spreadsheet",
    ".xls": "spreadsheet",
    ".ods": "spreadsheet",
}
SURVEY_FORMATS = ("spss", "stata", "sas", "xport")
# Files that are often beside the tables of a folder: they are read as its tables only if there are no others.
_DOCUMENTS = (*SURVEY_FORMATS, "spreadsheet")


@dataclass(frozen=True)
class SourceFiles:
    """The files of one table, in the order in which their rows are numbered."""

    filesystem: fsspec.AbstractFileSystem
    paths: tuple[str, ...]
    format: str
    root: str  # folder that hive partitions are relative to; "" for none

    def stat(self) -> list[dict[str, Any]]:
        """Return path, size in bytes and, where the filesystem knows it, modification time of every file."""
        stats = []
        for path in self.paths:
            info = self.filesystem.info(path)
            changed = info.get("mtime") or info.get("last_modified") or info.get("LastModified") or info.get("created")
            stats.append({"path": path, "size": info.get("size"), "changed": None if changed is None else str(changed)})
        return stats


def infer_format(path: str) -> str | None:
    """Return the format that a file's name ends in, None if it is not a known one."""
    name = path.lower()
    return next((kind for ending, kind in FORMATS.items() if name.endswith(ending)), None)


def find_files(sources: Sequence[str]) -> SourceFiles:
    """Find the files of one table from files, folders, globs and fsspec URLs.

    Files come in natural order of their names (part-2 before part-10); names that start with `_` or `.` are
    skipped in folders, as Spark, Hive and pyarrow do.

    Raises
    ------
    SourceNotFoundError
        If a source names nothing.
    UsageError
        If a source is a database.
    SourceFormatError
        If a file is of an unknown format, the files are of several formats, or a folder is a lake table, or
        all of its files are named: see lake_tables.py.
    """
    filesystem: fsspec.AbstractFileSystem | None = None
    paths: list[str] = []
    named: list[str] = []
    root = ""
    for source in sources:
        if is_database_url(source):
            raise UsageError(
                f"{hide_url(source)} is a database, and no table of it is named.",
                hint="add --query 'SELECT …'; in Python, give engine.Query(url, sql).",
            )
        try:
            source_filesystem, path = url_to_fs(source)
        except (ImportError, ValueError) as error:
            raise SourceNotFoundError(f"{hide_url(source)} cannot be opened: {error}.") from error
        if filesystem is not None and type(source_filesystem) is not type(filesystem):
            raise SourceFormatError("The sources of one table must all be on one filesystem.")
        filesystem = source_filesystem
        if any(mark in path for mark in "*?[") and not source_filesystem.exists(path):
            matches = [m for m in source_filesystem.glob(path) if source_filesystem.isfile(m)]
            refuse_lake_folders(source_filesystem, {posixpath.dirname(match) for match in matches})
        elif source_filesystem.isdir(path):
            root = root or path
            found = source_filesystem.find(path)
            refuse_lake_listing(path, found)
            refuse_lake_folders(source_filesystem, {path})
            tables = [m for m in found if not is_hidden(m[len(path) :]) and infer_format(m)]
            matches = [m for m in tables if infer_format(m) not in _DOCUMENTS] or tables
        elif source_filesystem.exists(path):
            matches = [path]
            named.append(path)
        else:
            raise SourceNotFoundError(f"There is no file or folder {hide_url(source)}.", hint=suggest_path(source))
        if not matches:
            raise SourceNotFoundError(
                f"{hide_url(source)} holds no table.", hint=f"files must end in one of {', '.join(sorted(FORMATS))}."
            )
        paths.extend(sorted(matches, key=_natural_key))
    if filesystem is None:
        raise SourceNotFoundError("No source was given.")
    check_named_files(filesystem, named)
    return SourceFiles(filesystem, tuple(dict.fromkeys(paths)), _common_format(paths), root)


def _common_format(paths: Sequence[str]) -> str:
    formats: dict[str, str] = {}
    for path in paths:
        kind = infer_format(path)
        if kind is None:
            raise SourceFormatError(
                f"{path} is of a format the engine does not read.",
                hint=f"file names must end in one of {', '.join(sorted(FORMATS))}.",
            )
        formats.setdefault(kind, path)
    if len(formats) > 1:
        named = ", ".join(f"{path} ({kind})" for kind, path in formats.items())
        raise SourceFormatError(f"The files of one table must be of one format, but there are {named}.")
    return next(iter(formats))


def is_hidden(relative: str) -> bool:
    """Return whether a file is skipped in folders: a part of its path there starts with `_`, `.` or Excel's `~$`."""
    return any(part.startswith(("_", ".", "~$")) for part in relative.split("/") if part)


def _natural_key(path: str) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", path)]

"""Turn what a user names (files, folders, globs, URLs) into a sorted list of files of one format."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from engine.errors import SourceFormatError, SourceNotFoundError, UsageError

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
}


@dataclass(frozen=True)
class Files:
    """Files of one table, in the order their rows are numbered."""

    filesystem: fsspec.AbstractFileSystem
    paths: tuple[str, ...]
    format: str
    root: str  # the folder that hive partitions are relative to; "" where there is none

    def stat(self) -> list[dict[str, Any]]:
        """Return path, size in bytes and, where the filesystem tells, the time of change of every file."""
        facts = []
        for path in self.paths:
            info = self.filesystem.info(path)
            changed = info.get("mtime") or info.get("last_modified") or info.get("LastModified") or info.get("created")
            facts.append({"path": path, "size": info.get("size"), "changed": None if changed is None else str(changed)})
        return facts


def format_of(path: str) -> str | None:
    """Return the format a file's name claims, or None."""
    name = path.lower()
    return next((kind for ending, kind in FORMATS.items() if name.endswith(ending)), None)


def parquet_path(out: str | PathLike[str]) -> Path:
    """Return where a table is to be written.

    Raises
    ------
    UsageError
        If the name claims a format that tables are not written in.
    """
    kind = format_of(str(out))
    if kind not in (None, "parquet"):
        raise UsageError(
            f"{out} is named as {kind}, but tables are written as Parquet.", hint="end the name in .parquet."
        )
    return Path(out)


def find_files(sources: Sequence[str]) -> Files:
    """Expand files, folders, globs and fsspec URLs into the files of one table.

    Files come in natural order of their names (part-2 before part-10); names that start with `_` or `.` are
    skipped in folders, as everywhere in the Parquet world.

    Raises
    ------
    SourceNotFoundError
        If a source names nothing.
    SourceFormatError
        If a file is of an unknown format, or the files are of several formats.
    """
    filesystem: fsspec.AbstractFileSystem | None = None
    found: list[str] = []
    root = ""
    for source in sources:
        try:
            here, path = url_to_fs(source)
        except (ImportError, ValueError) as error:
            raise SourceNotFoundError(f"{source} cannot be opened: {error}.") from error
        if filesystem is not None and type(here) is not type(filesystem):
            raise SourceFormatError("The sources of one table must all be on one filesystem.")
        filesystem = here
        if any(mark in path for mark in "*?["):
            matches = [m for m in here.glob(path) if here.isfile(m)]
        elif here.isdir(path):
            root = root or path
            matches = [m for m in here.find(path) if not _hidden(m[len(path) :]) and format_of(m)]
        elif here.exists(path):
            matches = [path]
        else:
            raise SourceNotFoundError(f"There is no file or folder {source}.")
        if not matches:
            raise SourceNotFoundError(
                f"{source} holds no table.", hint=f"files must end in one of {', '.join(sorted(FORMATS))}."
            )
        found.extend(sorted(matches, key=_natural))
    if filesystem is None:
        raise SourceNotFoundError("No source was given.")
    return Files(filesystem, tuple(dict.fromkeys(found)), _one_format(found), root)


def _one_format(paths: Sequence[str]) -> str:
    formats: dict[str, str] = {}
    for path in paths:
        kind = format_of(path)
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


def _hidden(relative: str) -> bool:
    return any(part.startswith(("_", ".")) for part in relative.split("/") if part)


def _natural(path: str) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", path)]

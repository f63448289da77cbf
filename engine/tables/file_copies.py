"""Find files of one table that are copies of one another, as `people (1).csv` is: their rows would count twice.

files  ->  a warning that names a copy and what it is a copy of
"""

from __future__ import annotations

import filecmp
import os
import warnings
from collections.abc import Iterator

import pyarrow.parquet as pq

from engine.tables.source_paths import SourceFiles

HEAD = 1 << 16  # bytes that tell most files of one size apart


class FileCopiesWarning(UserWarning):
    """Warns of files of one table that are the same to the byte."""


def warn_of_copies(files: SourceFiles) -> None:
    """Warn of files on this machine that are the same to the byte and have rows."""
    if len(files.paths) < 2 or not all(map(os.path.isfile, files.paths)):
        return
    copies = [(path, other) for path, other in _find_copies(files.paths) if _has_rows(path, files.format)]
    if copies:
        path, other = copies[0]
        more = f", and {len(copies) - 1} more files are copies" if len(copies) > 1 else ""
        warnings.warn(
            f"{path} is the same as {other}{more}: their rows count twice. Leave out the copies if that is not meant.",
            FileCopiesWarning,
            stacklevel=4,
        )


def _find_copies(paths: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield every file that is the same as an earlier one, and that one; few files are read further than HEAD."""
    by_size: dict[int, list[str]] = {}
    for path in paths:
        by_size.setdefault(os.path.getsize(path), []).append(path)
    for alike in by_size.values():
        by_head: dict[bytes, list[str]] = {}
        for path in alike if len(alike) > 1 else ():
            with open(path, "rb") as stream:
                by_head.setdefault(stream.read(HEAD), []).append(path)
        for group in by_head.values():
            different: list[str] = []
            for path in group:
                other = next((other for other in different if filecmp.cmp(path, other, shallow=False)), None)
                if other is None:
                    different.append(path)
                else:
                    yield path, other


def _has_rows(path: str, form: str) -> bool:
    """Tell whether a file has rows: jobs on many workers write files with nothing but a header."""
    if form == "parquet":
        return bool(pq.read_metadata(path).num_rows)
    if form == "csv":
        with open(path, "rb") as stream:
            return sum(1 for _ in zip(stream, range(2), strict=False)) == 2
    return True

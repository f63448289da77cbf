"""Check the path of an output before any work: it is local, its name fits, and it overlaps no input.

    --out, sources  ->  Path, or an error: a URL, a link to nothing, a name of another format, an input in the way

A name may hold a colon or begin with a tilde: it is a name like others. So pyarrow, which takes the first for a URI and
expands the second, is given absolute paths only.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from engine.errors import OutputExistsError, OutputOverlapError, UsageError
from engine.tables.databases.address import hide_url
from engine.tables.source_paths import infer_format, is_hidden

# A scheme of at least two letters before the slash: pathlib makes one slash of the two of a URL. C:/ is a drive.
_URL = re.compile(r"[A-Za-z][\w+.:-]+:/")


def local_path(out: str | PathLike[str]) -> Path:
    """Return the path of an output.

    Raises
    ------
    UsageError
        If it is a URL.
    OutputExistsError
        If it is a link to nothing.
    """
    path = Path(out)
    if _URL.match(os.fspath(out)):
        raise UsageError(
            f"{hide_url(os.fspath(out))} is a URL, but results are written to local folders.",
            hint="write to a folder, and copy it; `rooms assign --to` writes to a table of a database.",
        )
    if path.is_symlink() and not path.exists():
        raise OutputExistsError(
            f"{out} is a link to {path.readlink()}, which is not there.", hint="delete the link, or choose another out."
        )
    return path


def parquet_path(out: str | PathLike[str]) -> Path:
    """Return the path that a table is written to, after checking that its name does not end in another format.

    Raises
    ------
    UsageError
        If the name ends in a format that tables are not written in, or is a URL.
    OutputExistsError
        If it is a link to nothing.
    """
    kind = infer_format(str(out))
    if kind not in (None, "parquet"):
        raise UsageError(
            f"{out} is named as {kind}, but tables are written as Parquet.", hint="end the name in .parquet."
        )
    return local_path(out)


def check_new_file(out: Path, *, overwrite: bool) -> None:
    """Check that one file can be written, and create its folder.

    Raises
    ------
    UsageError
        If it is a folder, or its own folder cannot be written.
    OutputExistsError
        If it exists and `overwrite` is false.
    """
    if out.is_dir():
        raise UsageError(f"{out} is a folder, but the table is one file.", hint=f"try {out / 'table.parquet'}.")
    if out.exists() and not overwrite:
        raise OutputExistsError(f"{out} already exists.", hint="choose another --out, or add --overwrite.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out.parent).close()
    except OSError as error:
        raise UsageError(f"{out.parent} cannot be written: {error.strerror}.") from error


def check_apart(out: Path, *sources: Any) -> None:
    """Check that an output neither is, holds, nor lies in what is read, links followed; call it before any work.

    A file in a folder that is read is refused as well, because it would be rows of the table the next time.

    Parameters
    ----------
    out : path
    *sources : path, URL or list of them
        Files, folders and globs. Everything else (None, data frames, URLs of other file systems) overlaps nothing.

    Raises
    ------
    OutputOverlapError
        Naming both.
    """
    target = out.resolve()
    for source in _paths(sources):
        for path in _local_paths(source):
            relation = _relation(target, path)
            if relation is not None:
                raise OutputOverlapError(
                    f"The output {out} {relation} the input {path}: writing it would change what is read.",
                    hint="choose another --out.",
                )


def _relation(target: Path, path: str) -> str | None:
    source = Path(path).resolve()
    if source == target:
        return "is"
    if target in source.parents:
        return "holds"
    if source in target.parents and source.is_dir() and not is_hidden(str(target.relative_to(source))):
        return "lies in"
    return None


def _paths(sources: Sequence[Any]) -> Iterator[str]:
    for source in sources:
        if isinstance(source, str | PathLike):
            yield os.fspath(source)
        elif isinstance(source, list | tuple):
            yield from _paths(source)


def _local_paths(source: str) -> Iterator[str]:
    """Yield the files and folders that a source names, and what links in its folders lead to."""
    try:
        filesystem, path = url_to_fs(source)
    except (ImportError, ValueError):  # opening the table says so
        return
    if not isinstance(filesystem, LocalFileSystem):
        return
    for match in [path] if os.path.exists(path) else filesystem.glob(path):
        yield match
        for folder, folders, files in os.walk(match):
            folders[:] = [name for name in folders if not is_hidden(name)]
            yield from (link for name in (*folders, *files) if os.path.islink(link := os.path.join(folder, name)))

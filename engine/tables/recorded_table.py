"""Open the table that a run was made of again, by the files that its manifest names.

fingerprint of the input  ->  Table, or an error: the files are gone or changed, or there were none
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from engine.blocks import Table
from engine.errors import InputChangedError, SourceNotFoundError, UsageError
from engine.tables.file_table import open_table
from engine.tables.source_paths import find_files

HINT = "name the table: --table, or table=… in Python."


def open_recorded_table(
    fingerprint: Mapping[str, Any], where: str, *, id: str | None, types: Mapping[str, pa.DataType] | None
) -> Table:
    """Open the table of a fingerprint.

    Parameters
    ----------
    fingerprint : mapping
        As Table.fingerprint returned it.
    where : str
        The run, for errors.
    id, types
        As of open_table.

    Raises
    ------
    UsageError
        If it was a data frame, a query or batches, or folders gave some of its columns.
    SourceNotFoundError
        If a file is not there any more.
    InputChangedError
        If a file has another size, or was written anew.
    """
    files = fingerprint.get("files") or []
    if not files:
        known = {"query": "a query, which is not run again", "Arrow batches": "batches, which are not kept"}
        what = known.get(fingerprint.get("format", ""), "a data frame, which is not kept")
        raise UsageError(f"{where} was made of {what}.", hint=HINT)
    try:
        found = find_files([file["path"] for file in files])
    except SourceNotFoundError as error:
        raise SourceNotFoundError(f"The table of {where} is not there any more: {error.message}", hint=HINT) from error
    changed = [old["path"] for old, new in zip(files, found.stat(), strict=True) if old != new]
    if changed:
        raise InputChangedError(
            f"{changed[0]} is not what {where} was made of any more: it was written anew.", hint=HINT
        )
    table = open_table([file["path"] for file in files], id=id, types=types)
    missing = [name for name in fingerprint["columns"] if name not in table.schema.names]
    if missing and len(table.schema) < len(fingerprint["columns"]):
        raise UsageError(f"Folders gave {where} its column {missing[0]!r}, and it names only files.", hint=HINT)
    return table

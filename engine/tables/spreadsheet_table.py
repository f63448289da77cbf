"""SpreadsheetTable: sheets of Excel and OpenDocument files as a Table, read by python-calamine (the extra `survey`).

    cells  ->  one type a column, that fits all of its cells  ->  blocks

The first visible sheet with cells is the table, its first row the names. A workbook is read as a whole: its format is
compressed XML, and a sheet has a million rows at most. Empty cells, errors such as #N/A and the usual markers are
missing values; no row is left out.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from engine.blocks import Block, require_columns, split_into_blocks
from engine.errors import IdColumnError, SourceFormatError
from engine.tables.csv_dialect import MISSING
from engine.tables.csv_schema import check_distinct_names, check_same_names
from engine.tables.source_paths import SourceFiles
from engine.tables.survey_table import explain_missing_library
from engine.tables.survey_variables import plain_text

logger = logging.getLogger(__name__)

LARGEST_EXACT = 1e15  # spreadsheets keep 15 digits of a number
_MISSING = frozenset(MISSING)
_NUMBERS, _DAYS = {int, float}, {dt.date, dt.datetime}
_DURATIONS = {dt.time, dt.timedelta}


class SpreadsheetTable:
    """The first sheets of one or several workbooks as a Table."""

    def __init__(self, files: SourceFiles, *, id: str | None, types: Mapping[str, pa.DataType] | None) -> None:
        with explain_missing_library("python-calamine", files.paths[0]):
            import python_calamine  # noqa: F401
        self._files = files
        names: list[str] = []
        columns: list[list[Any]] = []
        for path in files.paths:
            found, cells = _read_sheet(files, path)
            if path == files.paths[0]:
                names, columns = found, cells
                continue
            check_same_names(names, found, files.paths[0], path)
            for column, more in zip(columns, cells, strict=True):
                column.extend(more)
        known = types or {}
        arrays = [
            _to_arrow(name, cells, as_text=known.get(name) == pa.string(), is_id=name == id)
            for name, cells in zip(names, columns, strict=True)
        ]
        self._rows = pa.table(arrays, names=names) if names else pa.table({})
        self.schema: pa.Schema = self._rows.schema
        self.n_rows = len(columns[0]) if columns else 0
        self.reading_bytes = self._rows.nbytes  # memory of a pass beside its blocks

    def blocks(self, columns: Sequence[str] | None = None, *, dictionary_encoded: bool = False) -> Iterator[Block]:
        """Yield the table's blocks with these columns (all by default)."""
        names = list(self.schema.names if columns is None else columns)
        require_columns(self.schema, names, "The table")
        yield from split_into_blocks([self._rows.select(names)], pa.schema([self.schema.field(n) for n in names]))

    def fingerprint(self) -> dict[str, Any]:
        """Return the files with sizes and times of change, the number of rows and the columns."""
        columns = {field.name: str(field.type) for field in self.schema}
        return {"format": "spreadsheet", "rows": self.n_rows, "files": self._files.stat(), "columns": columns}


def _read_sheet(files: SourceFiles, path: str) -> tuple[list[str], list[list[Any]]]:
    """Return the names and the cells of the columns of a workbook's first sheet, None for missing values."""
    from python_calamine import CalamineError, CalamineWorkbook, SheetVisibleEnum

    try:
        with files.filesystem.open(path, "rb") as stream:
            book = CalamineWorkbook.from_filelike(stream)
            visible = [m.name for m in book.sheets_metadata if m.visible == SheetVisibleEnum.Visible]
            sheets = [sheet for sheet in map(book.get_sheet_by_name, visible) if sheet.height > 0]
            rows = sheets[0].to_python() if sheets else []
    except (CalamineError, OSError, ValueError) as error:
        raise SourceFormatError(
            f"{path} cannot be read as a spreadsheet: {str(error).splitlines()[0]}.",
            hint="the file may be empty, cut off, protected by a password, or of another format.",
        ) from error
    if not rows:
        return [], []
    _describe_sheet(path, sheets)
    return _split_columns(path, sheets[0].name, rows)


def _describe_sheet(path: str, sheets: Sequence[Any]) -> None:
    """Log which sheet is read, and what of it a table cannot have."""
    first, others = sheets[0], [sheet.name for sheet in sheets[1:]]
    if others:
        logger.warning("%s: sheet %r is read; %d other sheets are not.", path, first.name, len(others))
    merged = [area for area in first.merged_cell_ranges or () if area[1][0] > first.start[0]]
    if merged:
        logger.warning("%s: %d merged areas hold a value in their first cell only.", path, len(merged))


def _split_columns(path: str, sheet: str, rows: Sequence[Sequence[Any]]) -> tuple[list[str], list[list[Any]]]:
    """Return names and columns of a sheet's rows; those without name and cells are left out, as are last empty rows."""
    cells = [[_missing_as_none(cell) for cell in column] for column in zip(*rows[1:], strict=True)]
    cells = cells or [[] for _ in rows[0]]
    n_rows = max((i + 1 for column in cells for i, cell in enumerate(column) if cell is not None), default=0)
    named = [(plain_text(name).strip(), column[:n_rows]) for name, column in zip(rows[0], cells, strict=True)]
    named = [(name, column) for name, column in named if name or any(cell is not None for cell in column)]
    names = [name for name, _ in named]
    if names.count("") > 1:
        raise SourceFormatError(
            f"{names.count('')} of {len(names)} columns of sheet {sheet!r} in {path} have no name in its first row.",
            hint="the first row must hold the names: leave out titles and empty lines above it.",
        )
    check_distinct_names(names, path)
    n_empty = sum(all(cell is None for cell in row) for row in zip(*(column for _, column in named), strict=True))
    if n_empty:
        logger.warning("%s: %d rows of sheet %r are empty, and count as rows.", path, n_empty, sheet)
    return names, [column for _, column in named]


def _missing_as_none(cell: Any) -> Any:
    return None if isinstance(cell, str) and cell in _MISSING else cell


def _to_arrow(name: str, cells: Sequence[Any], *, as_text: bool, is_id: bool) -> pa.Array:
    """Return a column in the narrowest type that fits all cells; numbers beside texts are texts."""
    kinds = {type(cell) for cell in cells} - {type(None)}
    if is_id and any(isinstance(cell, float) and abs(cell) >= LARGEST_EXACT for cell in cells):
        raise IdColumnError(
            f"Column {name!r} is the id, and it holds numbers of more than 15 digits, which spreadsheets round.",
            hint="keep such ids as text.",
        )
    if not kinds:
        return pa.nulls(len(cells))
    if as_text or not any(kinds <= fitting for fitting in ({bool}, _NUMBERS, _DAYS, _DURATIONS)):
        return pa.array([None if cell is None else _text_of(cell) for cell in cells], pa.string())
    if kinds <= _NUMBERS:
        whole = all(cell is None or (float(cell).is_integer() and abs(cell) < LARGEST_EXACT) for cell in cells)
        return pa.array(cells, pa.float64()).cast(pa.int64()) if whole else pa.array(cells, pa.float64())
    if kinds <= _DAYS:
        if kinds == {dt.date}:
            return pa.array(cells, pa.date32())
        midnight = dt.time()
        times = [dt.datetime.combine(cell, midnight) if type(cell) is dt.date else cell for cell in cells]
        return pa.array(times, pa.timestamp("us"))
    if kinds <= _DURATIONS:
        return pa.array([None if cell is None else _seconds_of(cell) for cell in cells], pa.float64())
    return pa.array(cells, pa.bool_())


def _text_of(cell: Any) -> str:
    return cell.isoformat() if isinstance(cell, dt.date | dt.time) else plain_text(cell)


def _seconds_of(cell: dt.time | dt.timedelta) -> float:
    if isinstance(cell, dt.timedelta):
        return cell.total_seconds()
    return 3600.0 * cell.hour + 60 * cell.minute + cell.second + cell.microsecond / 1e6

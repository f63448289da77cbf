"""SurveyTable: files of SPSS, Stata and SAS as a Table, read by pyreadstat (the extra `survey`) in bounded chunks.

    header  ->  variables, labels, formats, sets of answers     one pass  ->  rows, which columns are words or whole
    chunks of values  ->  blocks

Values that a file declares as missing are missing, single ones and ranges. How one variable is read:
survey_variables.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa

from engine.blocks import RECOGNISED, Block, require_columns, split_into_blocks
from engine.errors import SchemaMismatchError, SourceFormatError, UsageError
from engine.tables.csv_schema import check_distinct_names, check_same_names
from engine.tables.source_paths import SourceFiles
from engine.tables.survey_variables import (
    FIRST_DAY,
    LAST_DAY,
    MAX_LABELLED,
    AnswerSet,
    TimeFormat,
    Values,
    count_days,
    distinct_words,
    find_time_format,
    hold_words,
    marks_in_labels,
    plain_text,
    read_times,
    read_words,
    to_numbers,
)

logger = logging.getLogger(__name__)

PROGRAMS = {".sav": "spss", ".zsav": "spss", ".dta": "stata", ".sas7bdat": "sas", ".xpt": "xport"}
CHUNK_VALUES = 1 << 21  # read at a time: pyreadstat holds each as a Python object
BYTES_PER_VALUE = 40
LARGEST_WHOLE = 2.0**53  # whole numbers above it have no exact double


class SurveyFile:
    """One file: its header, and its rows chunk by chunk."""

    def __init__(self, files: SourceFiles, path: str) -> None:
        self.path, self._files = path, files
        self.program = next(kind for ending, kind in PROGRAMS.items() if path.lower().endswith(ending))
        options = {"user_missing": True} if self.program == "spss" else {}  # else the header's ranges are not given
        _, header = self._call(metadataonly=True, **options)
        self.names: list[str] = list(header.column_names)
        check_distinct_names(self.names, path)
        self.n_rows: int | None = header.number_rows if (header.number_rows or -1) >= 0 else None
        self.labels: dict[str, dict[Any, str]] = {n: dict(header.variable_value_labels.get(n, {})) for n in self.names}
        self.texts = {name for name in self.names if header.readstat_variable_types[name] == "string"}
        self.titles: dict[str, str | None] = dict(header.column_names_to_labels)
        written = header.original_variable_types
        self.times = {
            name: form
            for name in self.names
            if name not in self.texts and (form := find_time_format(written[name], self.program)) is not None
        }
        self.declared: dict[str, list[dict[str, Any]]] = dict(getattr(header, "missing_ranges", None) or {})
        self.sets: dict[str, dict[str, Any]] = dict(getattr(header, "mr_sets", None) or {})

    def chunks(self, names: Sequence[str]) -> Iterator[dict[str, Values]]:
        """Yield the values of some variables, CHUNK_VALUES at a time; raise SourceFormatError if rows are missing."""
        n_rows, size = 0, max(1, CHUNK_VALUES // max(1, len(names)))
        while self.n_rows is None or n_rows < self.n_rows:
            columns, _ = self._call(
                usecols=list(names), row_offset=n_rows, row_limit=size, disable_datetime_conversion=True
            )
            n_read = len(columns[names[0]])
            n_rows += n_read
            if n_read:
                yield columns
            if n_read < size:
                break
        if self.n_rows is not None and n_rows != self.n_rows:
            raise SourceFormatError(
                f"{self.path} holds {n_rows:,} rows, but its header says {self.n_rows:,}.",
                hint="the file may be cut off: write it again.",
            )

    def _call(self, **options: Any) -> tuple[dict[str, Values], Any]:
        import pyreadstat

        readers: dict[str, Callable[..., Any]] = {
            "spss": pyreadstat.read_sav,
            "stata": pyreadstat.read_dta,
            "sas": pyreadstat.read_sas7bdat,
            "xport": pyreadstat.read_xport,
        }
        try:
            with self._files.filesystem.open(self.path, "rb") as stream:
                found: tuple[dict[str, Values], Any] = readers[self.program](stream, output_format="dict", **options)
        except (pyreadstat.ReadstatError, pyreadstat.PyreadstatError, UnicodeDecodeError, OSError) as error:
            what = "" if isinstance(error, UnicodeDecodeError) else f": {str(error).splitlines()[0]}"
            raise SourceFormatError(
                f"{self.path} cannot be read as a file of {self.program}{what}.",
                hint="the file may be empty, cut off, or of another format: write it again, or leave it out.",
            ) from error
        return found


class SurveyTable:
    """One or several survey files of one program as a Table."""

    def __init__(self, files: SourceFiles, *, id: str | None, types: Mapping[str, pa.DataType] | None) -> None:
        with explain_missing_library("pyreadstat", files.paths[0]):
            import pyreadstat  # noqa: F401
        self._files, self._id = files, id
        self._parts = [SurveyFile(files, path) for path in files.paths]
        first = self._parts[0]
        for part in self._parts[1:]:
            check_same_names(first.names, part.names, first.path, part.path)
            if part.texts != first.texts or part.times != first.times:
                differing = sorted(
                    (part.texts ^ first.texts) | {n for n, _ in part.times.items() ^ first.times.items()}
                )
                what = ", ".join(map(repr, differing))
                raise SchemaMismatchError(f"Column {what} is of another kind in {first.path} than in {part.path}.")
        self._sets = [_answer_sets(part) for part in self._parts]
        members = {name for found in self._sets[0].values() for name in found.variables}
        self._scan(types)
        self.schema = self._make_schema(members)
        for name, field in zip(self.schema.names, self.schema, strict=True):
            if RECOGNISED in (field.metadata or {}):
                logger.info("%s: %r: %s", first.path, name, field.metadata[RECOGNISED].decode())

    def _scan(self, types: Mapping[str, pa.DataType] | None) -> None:
        """Count the rows, and find out which columns hold words, whole numbers and dates in all of them."""
        first, numbers = self._parts[0], [n for n in self._parts[0].names if n not in self._parts[0].texts]
        self.n_rows, self._whole, self._times = 0, set(numbers), dict(first.times)
        observed: dict[str, set[float]] = {n: set() for n in numbers if any(p.labels[n] for p in self._parts)}
        unread = {name: set(marks_in_labels(first.labels[name])) for name in observed}
        for part in self._parts:
            for columns in part.chunks(part.names):
                self.n_rows += len(columns[part.names[0]])
                for name in numbers:
                    values = to_numbers(columns[name])
                    values = values[~np.isnan(values)]
                    if name in observed and len(observed[name]) <= MAX_LABELLED:
                        observed[name].update(np.unique(values).tolist())
                    if name in self._whole and not _are_whole(values):
                        self._whole.discard(name)
                    if name in self._times and not _are_days(values, self._times[name]):
                        del self._times[name]
        if types is None:
            labels = {n: {v: w for p in self._parts for v, w in p.labels[n].items()} for n in observed}
            words = {n for n, v in observed.items() if hold_words(v - unread[n], labels[n])}
        else:  # as it was when the model was fitted
            words = {name for name in observed if types.get(name) == pa.string()}
        texts = {name for name in first.texts if any(part.labels[name] for part in self._parts)}
        self._words = (words | texts) - {self._id} - set(self._times)
        self._marks = {name: unread[name] for name in observed if unread[name] and name not in self._words | {self._id}}

    def _make_schema(self, members: set[str]) -> pa.Schema:
        """Return the columns in the order of the file; a set stands where its first variable would."""
        fields, first = [], self._parts[0]
        for name in first.names:
            if name in members and name != self._id:
                fields += [
                    _field(found.name, pa.list_(pa.string()), [f"multiple answers of {len(found.variables)} variables"])
                    for found in self._sets[0].values()
                    if found.variables[0] == name
                ]
                continue
            fields.append(_field(name, self._type_of(name), self._notes_of(name)))
        return pa.schema(fields)

    def _type_of(self, name: str) -> pa.DataType:
        if name in self._words or name in self._parts[0].texts:
            return pa.string()
        if name in self._times:
            return pa.date32() if self._times[name].is_date else pa.timestamp("us")
        return pa.int64() if name in self._whole else pa.float64()

    def _notes_of(self, name: str) -> list[str]:
        """Return what was recognised of a column, in words."""
        notes = ["words of value labels"] if name in self._words else []
        if self._parts[0].labels[name] and name not in self._words and name != self._id:
            notes.append("numbers, of which only some have labels")
        if name in self._parts[0].times and name not in self._times:
            notes.append("dates out of range: read as numbers")
        ranges = [_range_text(one["lo"], one["hi"]) for one in self._parts[0].declared.get(name, ())]
        ranges += [f"{plain_text(mark)} by its label" for mark in sorted(self._marks.get(name, ()))]
        return notes + ([f"missing, says the file: {', '.join(ranges)}"] if ranges else [])

    @property
    def reading_bytes(self) -> int:
        """Memory of a pass beside its blocks, in bytes."""
        return BYTES_PER_VALUE * min(CHUNK_VALUES, self.n_rows * len(self._parts[0].names))

    def blocks(self, columns: Sequence[str] | None = None, *, dictionary_encoded: bool = False) -> Iterator[Block]:
        """Yield the table's blocks with these columns (all by default), reading nothing else."""
        names = list(self.schema.names if columns is None else columns)
        require_columns(self.schema, names, "The table")
        schema = pa.schema([self.schema.field(name) for name in names])
        yield from split_into_blocks(self._batches(names, schema), schema)

    def _batches(self, names: Sequence[str], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for part, sets in zip(self._parts, self._sets, strict=True):
            needed = [v for name in names for v in (sets[name].variables if name in sets else (name,))]
            for columns in part.chunks(sorted(set(needed), key=part.names.index)):
                arrays = [
                    sets[n].read(columns) if n in sets else self._read(n, columns[n], part.labels[n]) for n in names
                ]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _read(self, name: str, values: Values, labels: Mapping[Any, str]) -> pa.Array:
        """Return a column of a chunk."""
        if name in self._words or name in self._parts[0].texts:
            return read_words(values, distinct_words(labels) if name in self._words else {})
        numbers = to_numbers(values)
        if name in self._marks:
            numbers = np.where(np.isin(numbers, sorted(self._marks[name])), np.nan, numbers)
        if name in self._times:
            return read_times(numbers, self._times[name])
        return pa.array(numbers, from_pandas=True).cast(self.schema.field(name).type)

    def fingerprint(self) -> dict[str, Any]:
        """Return the files with sizes and times of change, the number of rows and the columns."""
        columns = {field.name: str(field.type) for field in self.schema}
        return {"format": self._parts[0].program, "rows": self.n_rows, "files": self._files.stat(), "columns": columns}


@contextmanager
def explain_missing_library(module: str, path: str) -> Iterator[None]:
    """Raise UsageError, which says how to install it, if an import of the extra `survey` fails."""
    try:
        yield
    except ImportError as error:
        raise UsageError(
            f"Reading {path} needs the extra 'survey', and {module} is not installed.",
            hint="pip install 'rooms-engine[survey]'",
        ) from error


def _answer_sets(part: SurveyFile) -> dict[str, AnswerSet]:
    """Return the multiple-response sets of a file by the names of their columns."""
    found = {}
    for name, facts in part.sets.items():
        variables = tuple(variable for variable in facts["variable_list"] if variable in part.names)
        if not variables:
            continue
        column = name if name not in part.names else f"{name} (set)"
        if facts["is_dichotomy"]:
            counted = facts["counted_value"]
            counted = str(counted) if variables[0] in part.texts else float(counted)
            words = distinct_words({variable: part.titles.get(variable) or variable for variable in variables})
            found[column] = AnswerSet(column, variables, counted, words)
        else:
            labels = {value: word for variable in variables for value, word in part.labels[variable].items()}
            found[column] = AnswerSet(column, variables, None, distinct_words(labels))
    return found


def _field(name: str, kind: pa.DataType, notes: Sequence[str]) -> pa.Field:
    return pa.field(name, kind, metadata={RECOGNISED: "; ".join(notes).encode()} if notes else None)


def _range_text(low: Any, high: Any) -> str:
    """Return a range that a file declares as missing; infinities are SPSS' LOWEST and HIGHEST."""
    if low == high:
        return plain_text(low)
    ends = ["lowest" if low < -1e300 else plain_text(low), "highest" if high > 1e300 else plain_text(high)]
    return " to ".join(ends)


def _are_whole(values: np.ndarray[Any, np.dtype[np.float64]]) -> bool:
    return bool((values == np.rint(values)).all() and (np.abs(values) < LARGEST_WHOLE).all())


def _are_days(values: np.ndarray[Any, np.dtype[np.float64]], form: TimeFormat) -> bool:
    days = count_days(values, form)
    return bool(((days >= FIRST_DAY) & (days < LAST_DAY + 1)).all())

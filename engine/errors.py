"""The errors of the engine, one class per cause. Each message says what is wrong, where, with both values.

The message ends with a `Hint:` line where there is a remedy. `exit_code` is what the command line returns:
2 usage, 3 bad data, 4 out of memory, disk or GPU, 5 output conflict, 6 model not readable, 7 stopped by the gate.
Messages name files, columns and numbers of rows, and never a user's values. What looks like the user and password of a
URL is replaced in all of them.
"""

from __future__ import annotations

import re
from typing import Any

_VARIABLE = r"\$\{\w+\}@[^\s@]*(?:\s|$)"  # in the place of a password it is none
_CREDENTIALS = (
    (re.compile(rf"://(?![^\s:@/]+:{_VARIABLE})\S*@"), "://***@"),
    (re.compile(rf"[^\s/:@'\"]+:(?!//|{_VARIABLE})\S*@"), "***@"),  # of a URL without :// or with other slashes
    (re.compile(r"(?i)\b(password|passwd|pwd)=[^\s&;]+"), r"\1=***"),
)


def hide_credentials(text: str) -> str:
    """Return a text with `user:password@` of whatever looks like a URL replaced, and with the values of `password=`."""
    for pattern, replacement in _CREDENTIALS:
        text = pattern.sub(replacement, text)
    return text


class RoomsError(Exception):
    """Base of all errors that the engine raises."""

    exit_code = 70

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.message = hide_credentials(message)
        self.hint = None if hint is None else hide_credentials(hint)
        super().__init__(self.message if hint is None else f"{self.message}\nHint: {self.hint}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore_error, (type(self), self.args, self.__dict__)  # constructors take other arguments than `args`


class UsageError(RoomsError, ValueError):
    """An argument or a configuration is invalid."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file is not valid."""


class DeviceNotAvailableError(RoomsError):
    """The device that was named does not answer."""

    exit_code = 4


class OutOfResourcesError(RoomsError):
    """Memory, disk or GPU memory does not suffice."""

    exit_code = 4


class DataError(RoomsError, ValueError):
    """Base of all errors in a table."""

    exit_code = 3


class SourceNotFoundError(DataError):
    """There is no file at the given source."""


class DatabaseError(DataError):
    """A database cannot be reached, or refuses a query or a table."""


class SourceFormatError(DataError):
    """A file cannot be read in the format of its name."""


class SchemaMismatchError(DataError):
    """Files of one table have different columns."""


class EmptyTableError(DataError):
    """A table has no rows."""


class MissingColumnError(DataError):
    """A required column is missing."""


class RetypedColumnError(DataError):
    """A column has another type than the one that the model was fitted on."""


class UnseenValuesError(DataError):
    """New rows have more values that the model does not know than are accepted."""


class IdColumnError(DataError):
    """The id column holds a null or a repeated value."""


class PersonNotFoundError(DataError):
    """No row of a table or run has the id that was asked for."""


class NothingInCommonError(DataError):
    """Two runs to compare have no ids in common."""


class NoCatalogueMatchError(DataError):
    """A catalogue holds none of the rated titles."""


class NoFeaturesError(DataError):
    """No column is left to cluster on."""


class TooFewRowsError(DataError):
    """Fewer distinct rows than clusters, or than a stage needs."""


class NonFiniteValueError(DataError):
    """A number is NaN or infinite."""


class InputChangedError(DataError):
    """Files of the table changed after the work began."""


class AuditError(RoomsError):
    """The files of a run are not what its stages computed.

    Parameters
    ----------
    differences : list of str
        What differs, one sentence part each.
    """

    def __init__(self, differences: list[str]) -> None:
        self.differences = differences
        shown = "; ".join(differences[:5]) + (f"; and {len(differences) - 5} more" if len(differences) > 5 else "")
        super().__init__(
            f"The audit of the finished run failed, so it was not published: {shown}.",
            hint="run it again; if it fails again, check memory and disk of this machine, and report it.",
        )


class ExportDiffersError(RoomsError):
    """An exported model assigns rows to other clusters than the model does."""


class OutputExistsError(RoomsError):
    """The target exists already."""

    exit_code = 5


class OutputOverlapError(RoomsError):
    """The target is, holds or lies in something that is read."""

    exit_code = 5


class ModelNotReadableError(RoomsError):
    """A model directory is incomplete, damaged, or of another format version."""

    exit_code = 6


class CheckpointNotReadableError(RoomsError):
    """A checkpoint of an interrupted run is damaged."""

    exit_code = 6


class NotMappedError(RoomsError):
    """A run was made without a map."""

    exit_code = 6


class NotExplainedError(RoomsError):
    """A run was made without rules and personas."""

    exit_code = 6


class GateStoppedError(RoomsError):
    """A table or a run is too different from the earlier one, and the gate was told to stop it.

    Parameters
    ----------
    message : str
    findings : list of str
        What differs, one sentence each.
    hint : str, optional
    """

    exit_code = 7

    def __init__(self, message: str, findings: list[str], *, hint: str | None = None) -> None:
        self.findings = findings
        super().__init__("\n".join([message, *(f"- {finding}" for finding in findings)]), hint=hint)


class ClusterError(RoomsError):
    """Base of all errors of a cluster of workers."""

    exit_code = 4


class SchedulerLostError(ClusterError):
    """The scheduler of a cluster does not answer."""


class WorkersLostError(ClusterError):
    """There are no workers, or none of them makes progress."""


class WorkersDifferError(ClusterError):
    """Workers run another version of the engine, or do not see the shared files."""


class TaskFailedError(ClusterError):
    """A task of a pass failed on every attempt."""


def _restore_error(kind: type[RoomsError], args: tuple[Any, ...], state: dict[str, Any]) -> RoomsError:
    """Return a pickled error as it was, with its notes."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class."""
    return (str(error).strip() or type(error).__name__).split("\n", 1)[0]

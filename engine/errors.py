"""One named error per cause. Each says what is wrong, where, with both values, and what to do.

The message ends with a `Hint:` line where there is a remedy. `exit_code` is what the command line returns:
2 usage, 3 bad data, 4 out of memory, disk or GPU, 5 output conflict, 6 model not readable.
Messages name files, columns and numbers of rows, and never a user's values.
"""

from __future__ import annotations


class RoomsError(Exception):
    """Base of every error the engine raises on purpose."""

    exit_code = 70

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.message = message
        self.hint = hint
        super().__init__(message if hint is None else f"{message}\nHint: {hint}")


class UsageError(RoomsError, ValueError):
    """An argument or a configuration that cannot be what was meant."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file that does not validate."""


class DeviceNotAvailableError(RoomsError):
    """A device was asked for by name, and it does not answer."""

    exit_code = 4


class OutOfResourcesError(RoomsError):
    """Memory, disk or GPU memory does not suffice."""

    exit_code = 4


class DataError(RoomsError, ValueError):
    """Base of everything that is wrong with a table."""

    exit_code = 3


class SourceNotFoundError(DataError):
    """No file where the source says."""


class SourceFormatError(DataError):
    """A file that cannot be read as the format its name claims."""


class SchemaMismatchError(DataError):
    """Files of one table disagree about their columns."""


class EmptyTableError(DataError):
    """A table without rows."""


class MissingColumnError(DataError):
    """A column that is needed is not there."""


class RetypedColumnError(DataError):
    """A column holds another type than the model was fitted on."""


class IdColumnError(DataError):
    """The id column is null or repeated somewhere."""


class NothingInCommonError(DataError):
    """Two runs to be compared that have nobody in common."""


class NoCatalogueMatchError(DataError):
    """A catalogue that has none of the titles."""


class NoFeaturesError(DataError):
    """No column is left to cluster on."""


class TooFewRowsError(DataError):
    """Fewer distinct rows than clusters, or than a stage needs."""


class NonFiniteValueError(DataError):
    """NaN or infinity where a number is needed."""


class InputChangedError(DataError):
    """Files of the table are not what they were when the work began."""


class OutputExistsError(RoomsError):
    """The target is there already."""

    exit_code = 5


class ModelNotReadableError(RoomsError):
    """A model directory that is incomplete, damaged, or from another format version."""

    exit_code = 6


class CheckpointNotReadableError(RoomsError):
    """A checkpoint of an interrupted run that is damaged."""

    exit_code = 6


class NotMappedError(RoomsError):
    """The map of a run that was made without one."""

    exit_code = 6


class NotExplainedError(RoomsError):
    """Rules or personas of a run that was made without them."""

    exit_code = 6


class ClusterError(RoomsError):
    """Base of everything that is wrong with a cluster of workers."""

    exit_code = 4


class SchedulerLostError(ClusterError):
    """The scheduler of a cluster does not answer."""


class WorkersLostError(ClusterError):
    """No worker is there, or none of them gets anything done."""


class WorkersDifferError(ClusterError):
    """Workers that run another version of the engine, or do not see the files they are to share."""


class TaskFailedError(ClusterError):
    """A part of a pass that failed on one worker after another."""

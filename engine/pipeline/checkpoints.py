"""Checkpoints of a fit: results of finished stages, from which another process resumes to the same bits.

    stage, facts (JSON), arrays  ->  checkpoints/<stage>, one file: checksum, then safetensors; renamed when complete

A file is replaced as a whole or not at all, and read only if its checksum matches. The first checkpoint identifies the
job: its settings, input and engine version. Which results are saved is decided in stages.py.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as arrays_from_bytes
from safetensors.numpy import save as arrays_to_bytes

from engine.config import FitConfig
from engine.errors import CheckpointNotReadableError, InputChangedError, UsageError

Facts = dict[str, Any]
Arrays = dict[str, NDArray[Any]]
Value = TypeVar("Value")

JOB = "job"
_CHECKSUM_BYTES = 32  # SHA-256
_FREE_SETTINGS = ("memory", "device", "cluster")  # may differ between a fit and its resumption: they change no result


class Checkpoints:
    """The checkpoints of one job.

    Parameters
    ----------
    folder : path, optional
        Without it, nothing is saved and nothing is loaded.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def identify(self, settings: FitConfig, fingerprint: Facts, previous: str | None = None) -> bool:
        """Identify the job by its settings and input; return whether there are checkpoints of it to resume from.

        `previous` is a digest of the run that it continues.

        Raises
        ------
        InputChangedError
            If the checkpoints are of other input; names the files that changed.
        UsageError
            If they are of other settings, or of another engine version.
        CheckpointNotReadableError
            If they are damaged.
        """
        decisive = {
            name: value for name, value in settings.model_dump(mode="json").items() if name not in _FREE_SETTINGS
        }
        if decisive["kmeans"]["algorithm"] == "fused":  # has the bits of lloyd, which may go on where it ended
            decisive["kmeans"]["algorithm"] = "lloyd"
        job: Facts = {"engine": version("rooms-engine"), "settings": decisive, "input": fingerprint}
        job |= {} if previous is None else {"previous": previous}
        earlier = self.load(JOB)
        if earlier is None:
            self.save(JOB, job)
            return False
        _check_same_job(earlier[0], json.loads(json.dumps(job)))
        return True

    def save(self, stage: str, facts: Facts, arrays: Arrays | None = None) -> None:
        """Save the result of a stage."""
        if self.folder is None:
            return
        text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        content = arrays_to_bytes({"facts": text} | {k: np.ascontiguousarray(v) for k, v in (arrays or {}).items()})
        partial = self.folder / f".{stage}.partial"
        with partial.open("wb") as file:
            file.write(hashlib.sha256(content).digest() + content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.folder / stage)

    def load(self, stage: str) -> tuple[Facts, Arrays] | None:
        """Return the saved result of a stage, None if there is none.

        Raises
        ------
        CheckpointNotReadableError
            If the file is damaged.
        """
        path = None if self.folder is None else self.folder / stage
        if path is None or not path.is_file():
            return None
        content = path.read_bytes()
        try:
            if hashlib.sha256(content[_CHECKSUM_BYTES:]).digest() != content[:_CHECKSUM_BYTES]:
                raise ValueError("its checksum differs")
            arrays = arrays_from_bytes(content[_CHECKSUM_BYTES:])
            return json.loads(arrays.pop("facts").tobytes()), arrays
        except (SafetensorError, ValueError, KeyError) as error:
            raise CheckpointNotReadableError(
                f"The checkpoint {path} is not what was written: {error}.",
                hint="start anew: the same command without --resume.",
            ) from error

    def load_or_make(
        self,
        stage: str,
        make: Callable[[], Value],
        pack: Callable[[Value], tuple[Facts, Arrays]],
        unpack: Callable[[Facts, Arrays], Value],
    ) -> Value:
        """Return the saved result of a stage; if there is none, make it and save it."""
        checkpoint = self.load(stage)
        if checkpoint is not None:
            return unpack(*checkpoint)
        value = make()
        self.save(stage, *pack(value))
        return value


def check_unchanged(before: Facts, now: Facts) -> None:
    """Raise InputChangedError, naming the files, unless two fingerprints of a table are equal."""
    if before == now:
        return
    old_files, new_files = ({file["path"]: file for file in facts.get("files", [])} for facts in (before, now))
    changed = [path for path in old_files | new_files if old_files.get(path) != new_files.get(path)]
    names = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
    raise InputChangedError(
        f"The input is not what it was when the run began: {names or 'it is another table'} changed.",
        hint="start anew: the same command without --resume.",
    )


def _check_same_job(earlier: Facts, job: Facts) -> None:
    check_unchanged(earlier["input"], job["input"])
    if earlier.get("previous") != job.get("previous"):
        raise InputChangedError(
            "The run that is continued is not what it was when this fit began.",
            hint="start anew: the same command without --resume.",
        )
    if earlier["settings"] != job["settings"]:
        different = [name for name, value in job["settings"].items() if earlier["settings"].get(name) != value]
        raise UsageError(
            f"The interrupted run had other settings: {', '.join(different)} differ.",
            hint="give the settings it had, or start anew without --resume.",
        )
    if earlier["engine"] != job["engine"]:
        raise UsageError(
            f"The interrupted run was of engine version {earlier['engine']}, and this is {job['engine']}.",
            hint="start anew: the same command without --resume.",
        )

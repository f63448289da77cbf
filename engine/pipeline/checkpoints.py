"""What a fit has done, written down so that another process can go on from there with the same bits.

    stage, facts (JSON), arrays  ->  checkpoints/<stage>, one file: checksum, then safetensors; renamed when complete

A file is replaced as a whole or not at all, and read only if its checksum holds. The first one says what job it is:
settings, input and engine. What is worth a checkpoint is the concern of the stages.
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
_CHECKSUM = 32  # bytes
_NOT_PART = ("memory", "device", "cluster")  # settings that decide no result


class Checkpoints:
    """The checkpoints of one job.

    Parameters
    ----------
    folder : path, optional
        Without it nothing is written, and nothing is found.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def identify(self, settings: FitConfig, fingerprint: Facts) -> bool:
        """Say what job this is; return whether it goes on from earlier checkpoints.

        Raises
        ------
        InputChangedError
            If earlier checkpoints are of other input: the files that changed are named.
        UsageError
            If they are of other settings, or of another version of the engine.
        CheckpointNotReadableError
            If they are damaged.
        """
        chosen = {name: value for name, value in settings.model_dump(mode="json").items() if name not in _NOT_PART}
        job = {"engine": version("rooms-engine"), "settings": chosen, "input": fingerprint}
        earlier = self.load(JOB)
        if earlier is None:
            self.save(JOB, job)
            return False
        _compare(earlier[0], json.loads(json.dumps(job)))
        return True

    def save(self, stage: str, facts: Facts, arrays: Arrays | None = None) -> None:
        """Write what a stage has come to."""
        if self.folder is None:
            return
        text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        packed = arrays_to_bytes({"facts": text} | {k: np.ascontiguousarray(v) for k, v in (arrays or {}).items()})
        partial = self.folder / f".{stage}.partial"
        with partial.open("wb") as file:
            file.write(hashlib.sha256(packed).digest() + packed)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.folder / stage)

    def load(self, stage: str) -> tuple[Facts, Arrays] | None:
        """Return what a stage had come to, None if it was not reached.

        Raises
        ------
        CheckpointNotReadableError
            If the file is not what was written.
        """
        path = None if self.folder is None else self.folder / stage
        if path is None or not path.is_file():
            return None
        content = path.read_bytes()
        try:
            if hashlib.sha256(content[_CHECKSUM:]).digest() != content[:_CHECKSUM]:
                raise ValueError("its checksum differs")
            arrays = arrays_from_bytes(content[_CHECKSUM:])
            return json.loads(arrays.pop("facts").tobytes()), arrays
        except (SafetensorError, ValueError, KeyError) as error:
            raise CheckpointNotReadableError(
                f"The checkpoint {path} is not what was written: {error}.",
                hint="start anew: the same command without --resume.",
            ) from error

    def drop(self, stage: str) -> None:
        """Forget what a stage had come to."""
        if self.folder is not None:
            (self.folder / stage).unlink(missing_ok=True)

    def remembered(
        self,
        stage: str,
        make: Callable[[], Value],
        pack: Callable[[Value], tuple[Facts, Arrays]],
        unpack: Callable[[Facts, Arrays], Value],
    ) -> Value:
        """Return what a stage had come to; else make it, and write it down."""
        there = self.load(stage)
        if there is not None:
            return unpack(*there)
        made = make()
        self.save(stage, *pack(made))
        return made


def check_unchanged(before: Facts, now: Facts) -> None:
    """Raise InputChangedError, naming the files, unless two fingerprints of a table are the same."""
    if before == now:
        return
    files, others = ({file["path"]: file for file in facts.get("files", [])} for facts in (before, now))
    changed = [path for path in files | others if files.get(path) != others.get(path)]
    what = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
    raise InputChangedError(
        f"The input is not what it was when the run began: {what or 'it is another table'} changed.",
        hint="start anew: the same command without --resume.",
    )


def _compare(earlier: Facts, job: Facts) -> None:
    check_unchanged(earlier["input"], job["input"])
    if earlier["settings"] != job["settings"]:
        other = [name for name, value in job["settings"].items() if earlier["settings"].get(name) != value]
        raise UsageError(
            f"The interrupted run had other settings: {', '.join(other)} differ.",
            hint="give the settings it had, or start anew without --resume.",
        )
    if earlier["engine"] != job["engine"]:
        raise UsageError(
            f"The interrupted run was of engine version {earlier['engine']}, and this is {job['engine']}.",
            hint="start anew: the same command without --resume.",
        )

"""Read and write the files of a model: model.json and arrays.safetensors. Data only, never a pickle.

model.json holds the format version and the SHA-256 of its own facts and of the arrays, so that a damaged or foreign
file is an error and not a wrong result. Models of format 1 have no checksum of their facts.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as arrays_from_bytes
from safetensors.numpy import save as arrays_to_bytes

from engine.errors import ModelNotReadableError

FORMAT = 2
METRIC_FORMAT = 3  # of models whose facts name a metric other than Euclid's
READABLE_FORMATS = (1, FORMAT, METRIC_FORMAT)


def write_model(folder: Path, facts: dict[str, Any], arrays: dict[str, NDArray[Any]], *, format: int = FORMAT) -> None:
    """Write a model's facts (plain JSON values) and arrays into `folder`, which is replaced."""
    shutil.rmtree(folder, ignore_errors=True)  # an incomplete model, if a fit was interrupted here
    folder.mkdir()
    content = arrays_to_bytes({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    (folder / "arrays.safetensors").write_bytes(content)
    checksums = {"arrays_sha256": hashlib.sha256(content).hexdigest(), "facts_sha256": _facts_checksum(facts)}
    document = {"format": format, **checksums, **facts}
    (folder / "model.json").write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")


def read_model(folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read the facts and arrays that write_model wrote.

    Raises
    ------
    ModelNotReadableError
        If a file is missing, damaged, or of another format version.
    """
    try:
        facts = json.loads((folder / "model.json").read_text())
        content = (folder / "arrays.safetensors").read_bytes()
    except OSError as error:
        raise ModelNotReadableError(
            f"{folder} holds no model: {error.strerror}.", hint="give the run directory that `rooms fit` wrote."
        ) from error
    except (ValueError, RecursionError) as error:
        raise ModelNotReadableError(f"{folder / 'model.json'} is not JSON.") from error
    version = facts.pop("format", None) if isinstance(facts, dict) else None
    if version not in READABLE_FORMATS:
        raise ModelNotReadableError(
            f"{folder} is of model format {version}, and this engine reads formats {READABLE_FORMATS}.",
            hint="fit again, or use the engine version in the run's manifest.json.",
        )
    arrays_checksum, facts_checksum = facts.pop("arrays_sha256", None), facts.pop("facts_sha256", None)
    if facts_checksum != (None if version == 1 else _facts_checksum(facts)):
        raise ModelNotReadableError(f"{folder / 'model.json'} is not what was written: its checksum differs.")
    if arrays_checksum != hashlib.sha256(content).hexdigest():
        raise ModelNotReadableError(f"{folder / 'arrays.safetensors'} is not what was written: its checksum differs.")
    try:
        return facts, arrays_from_bytes(content)
    except SafetensorError as error:
        raise ModelNotReadableError(f"{folder / 'arrays.safetensors'} cannot be read: {error}.") from error


def model_version(folder: Path) -> str:
    """Return the version of a model: the beginning of the checksum of its arrays."""
    checksum: str = json.loads((folder / "model.json").read_text())["arrays_sha256"]
    return checksum[:12]


def _facts_checksum(facts: dict[str, Any]) -> str:
    """Return the SHA-256 of facts, whatever the white space and the order of names in their file."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

"""Read and write the files of a model: model.json and arrays.safetensors. Data only, never a pickle.

model.json holds the format version and the SHA-256 of the arrays, so that a damaged or foreign file is an error and
not a wrong result.
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

FORMAT = 1


def write_model(folder: Path, facts: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
    """Write a model's facts (plain JSON values) and arrays into `folder`, which is replaced."""
    shutil.rmtree(folder, ignore_errors=True)  # an incomplete model, if a fit was interrupted here
    folder.mkdir()
    content = arrays_to_bytes({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    (folder / "arrays.safetensors").write_bytes(content)
    document = {"format": FORMAT, "arrays_sha256": hashlib.sha256(content).hexdigest(), **facts}
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
    except ValueError as error:
        raise ModelNotReadableError(f"{folder / 'model.json'} is not JSON.") from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        version = facts.get("format") if isinstance(facts, dict) else None
        raise ModelNotReadableError(
            f"{folder} is of model format {version}, and this engine reads format {FORMAT}.",
            hint="fit again, or use the engine version in the run's manifest.json.",
        )
    if facts.get("arrays_sha256") != hashlib.sha256(content).hexdigest():
        raise ModelNotReadableError(f"{folder / 'arrays.safetensors'} is not what was written: its checksum differs.")
    try:
        return facts, arrays_from_bytes(content)
    except SafetensorError as error:
        raise ModelNotReadableError(f"{folder / 'arrays.safetensors'} cannot be read: {error}.") from error

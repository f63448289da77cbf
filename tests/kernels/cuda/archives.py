"""Read an archive of compiled kernels, as build.py writes it."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

from engine.kernels.cuda.launch import DESCRIPTION


def read_archive(path: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return all files of an archive, and what its description says."""
    files = {}
    with tarfile.open(path) as archive:
        for member in archive:
            content = archive.extractfile(member)
            assert content is not None
            files[member.name] = content.read()
    return files, json.loads(files[DESCRIPTION])

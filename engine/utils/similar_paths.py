"""Suggest the file that was meant where a path is not there."""

from __future__ import annotations

import difflib
import os


def suggest_path(path: str | os.PathLike[str]) -> str | None:
    """Return a hint that names the most similarly named file or folder beside a local path that is not there.

    Returns
    -------
    str or None
        None if the path exists, if its folder cannot be listed, or if no name in it is similar.
    """
    folder, name = os.path.split(os.fspath(path).rstrip("/"))
    if os.path.exists(path):
        return None
    try:
        names = [other for other in os.listdir(folder or ".") if not other.startswith(".")]
    except (OSError, ValueError):  # a URL, a folder that is not there, or a text that is no path
        return None
    similar = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {os.path.join(folder, similar[0])}?" if similar else None

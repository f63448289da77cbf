"""Give a cluster of a finished run a name, or take it back.

    run directory, number, name  ->  the same directory with the name in all of its files, replaced at once

Assignments, model and manifest stay what they are: the new directory links to them. The name and what the engine called
the cluster are in config.yaml (`renamed`), from where later nights have them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.config import FitConfig
from engine.errors import ModelNotReadableError, UsageError
from engine.explain.export import escape_markdown
from engine.lineage.history import FILE, History
from engine.report.html_report import write_report
from engine.report.map_image import rename_on_map
from engine.run import Run
from engine.utils.atomic_directory import SUCCESS, write_directory_atomically
from engine.utils.file_locks import lock_folder
from engine.utils.formatting import printable_text


def rename_cluster(path: str | os.PathLike[str], number: int, name: str | None) -> tuple[str, str]:
    """Name a cluster of a run, or take its name back; return the name it had and the one it has.

    Parameters
    ----------
    path : path of a run directory
        It is replaced as a whole, so a reader sees the names of before or those of after.
    number : int
        Of the cluster.
    name : str or None
        None takes the given name back: the cluster has the engine's own again.

    Raises
    ------
    ModelNotReadableError
        If it is not a complete run, or a file of it does not have the cluster where it should.
    NotExplainedError
        If the run has no names.
    UsageError
        If there is no such cluster, another one has the name, the name is empty, or there is none to take back.
    """
    resolved = Path(path).resolve()
    if not resolved.parent.is_dir():
        Run(resolved)  # which says that it is no run
    with lock_folder(resolved.parent):  # the run is replaced: its own lock would be left with the old one
        return _rename(Run(resolved), path, number, name)


def _rename(run: Run, path: str | os.PathLike[str], number: int, name: str | None) -> tuple[str, str]:
    personas = {persona["cluster"]: persona for persona in run.personas}
    if number not in personas:
        raise UsageError(f"{path} has no cluster {number}.", hint=f"it has {', '.join(map(str, personas))}.")
    old = personas[number]["name"]
    automatic = personas[number].get("automatic_name")
    config = FitConfig.read(run.path / "config.yaml")
    if name is None:
        if number not in config.renamed or automatic is None:
            raise UsageError(f"Cluster {number} of {path} has no given name to take back.")
        new, renamed = automatic, {n: given for n, given in config.renamed.items() if n != number}
    else:
        given = FitConfig.merge({}, renamed={number: {"name": name, "instead_of": automatic or old}}).renamed
        new, renamed = given[number].name, config.renamed | given
    if new in (persona["name"] for other, persona in personas.items() if other != number):
        raise UsageError("Another cluster of the run has this name: names tell clusters apart.")
    changes = _Renaming(number, old, new, None if name is None else automatic or old)
    config = config.model_copy(update={"renamed": renamed, "names": _without(config.names, number)})
    with write_directory_atomically(run.path, overwrite=True, keeps_all=True) as folder:
        _link_files(run.path, folder)
        changes.apply(folder)
        _replace(folder / "config.yaml", lambda _: config.to_yaml())
        if (folder / "report.html").is_file():
            (folder / "report.html").unlink()  # a link to the old one
            write_report(folder)
    return old, new


def _without(names: dict[int, str], number: int) -> dict[int, str]:
    return {other: name for other, name in names.items() if other != number}


def _link_files(source: Path, target: Path) -> None:
    """Link all files of a folder into another one; copy them where the file system has no links."""

    def link(old: str, new: str) -> str:
        try:
            os.link(old, new)
        except OSError:
            shutil.copy2(old, new)
        return new

    shutil.copytree(source, target, copy_function=link, dirs_exist_ok=True, ignore=shutil.ignore_patterns(SUCCESS))


def _replace(path: Path, change: Callable[[str], str]) -> None:
    """Write a changed text as a new file, for the old one may be linked from the run as it was."""
    text = change(path.read_text(encoding="utf-8"))
    path.unlink()
    path.write_text(text, encoding="utf-8")


class _Renaming:
    """The change of one name in the files of a run; `automatic` is the engine's own name if people gave the new one."""

    def __init__(self, number: int, old: str, new: str, automatic: str | None) -> None:
        self.number, self.old, self.new, self.automatic = number, old, new, automatic

    def apply(self, folder: Path) -> None:
        """Change the name in every file that has it."""
        _replace(folder / "personas.json", self._personas)
        _replace(folder / "personas.md", self._markdown)
        _replace(folder / "rules.json", self._rules)
        _replace(folder / "rules.sql", self._statements)
        clusters = self._table(folder / "clusters.parquet")
        if (folder / "map.png").is_file():
            rename_on_map(folder / "map.png", *(clusters[c].to_pylist() for c in ("persona", "cluster", "size")))
        if (folder / FILE).is_file():
            _replace(folder / FILE, self._lineage)

    def _personas(self, text: str) -> str:
        document = json.loads(text)
        for position, persona in enumerate(document["personas"]):
            if persona["cluster"] == self.number:
                rest = {k: v for k, v in persona.items() if k not in ("cluster", "name", "automatic_name")}
                given = {} if self.automatic is None else {"automatic_name": self.automatic}
                document["personas"][position] = {"cluster": self.number, "name": self.new, **given, **rest}
        return _to_json(document)

    def _rules(self, text: str) -> str:
        document = json.loads(text)
        for cluster in document["clusters"]:
            if cluster["cluster"] == self.number:
                cluster["name"] = self.new
        return _to_json(document)

    def _markdown(self, text: str) -> str:
        lines = text.split("\n")
        old, new = (f"## {escape_markdown(name)}" for name in (self.old, self.new))
        below = [position for position, line in enumerate(lines) if line == f"Cluster {self.number}."]
        return self._replace_line(lines, [at - 2 for at in below if lines[at - 2].startswith(old)], old, new)

    def _statements(self, text: str) -> str:
        lines = text.split("\n")
        old, new = (f"  -- {self.number}: {printable_text(name)} (" for name in (self.old, self.new))
        return self._replace_line(lines, [at for at, line in enumerate(lines) if line.startswith(old)], old, new)

    def _replace_line(self, lines: list[str], found: list[int], old: str, new: str) -> str:
        """Replace the beginning of the one line that names the cluster."""
        if len(found) != 1:
            raise ModelNotReadableError(f"A file of the run does not name cluster {self.number} once.")
        lines[found[0]] = new + lines[found[0]][len(old) :]
        return "\n".join(lines)

    def _table(self, path: Path) -> pa.Table:
        table = pq.read_table(path.absolute())
        numbers, names = table["cluster"].to_pylist(), table["persona"].to_pylist()
        names[numbers.index(self.number)] = self.new
        path.unlink()
        table = table.set_column(table.column_names.index("persona"), "persona", pa.array(names))
        pq.write_table(table, path)
        return table

    def _lineage(self, text: str) -> str:
        return History.from_text(text).renamed_tonight(self.number, self.new).to_text()


def _to_json(document: Any) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"

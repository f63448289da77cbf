"""Ask a function of the user's own for names of clusters: it sees aggregates only, and what it says is checked.

    personas, function  ->  AskedNames: number of a cluster -> its name, and what was refused and why

Nothing is sent anywhere by the engine: the function is called in this process, and does what its author wants. It gets
what personas.json discloses, which has at least `min_people` sampled people behind every figure, and never rows or ids.
A function that fails, takes too long or returns what is no good name costs no run: the engine's own names stay, with a
warning. decisions/0060-own-names.md says why.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from engine.config import function_name
from engine.errors import ConfigError
from engine.explain.personas.persona import Persona
from engine.utils.formatting import printable_text

Namer = Callable[[list[dict[str, Any]]], Mapping[int, str]]
MAX_LENGTH = 60  # letters of a name: it has to fit into a list, a legend and a table


@dataclass(frozen=True)
class AskedNames:
    """What a function of the user's own said.

    Attributes
    ----------
    function : str
        Its module and name.
    asked : int
        The number of clusters that it was asked about.
    names : dict of number to name
        Those that are taken.
    refused : list of str
        Why others are not, in sentences.
    """

    function: str
    asked: int
    names: dict[int, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """Return what manifest.json says of it."""
        return {"function": self.function, "asked": self.asked, "named": len(self.names), "refused": self.refused}


def find_namer(namer: Namer | str | None) -> Namer | None:
    """Return the function that `explain.namer` names, as "module:function", or is.

    Modules of the current folder are found as well as installed ones.

    Raises
    ------
    ConfigError
        If there is no such module or function.
    """
    if namer is None or callable(namer):
        return namer
    module_name, _, name = namer.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found: Any = import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # a module of the user's may raise anything
        raise ConfigError(
            f"explain.namer is {namer!r}, but that cannot be imported: {type(error).__name__}: {error}.",
            hint="write it as module:function, with the module in the current folder or installed.",
        ) from error
    finally:
        sys.path.remove(here)
    if not callable(found):
        raise ConfigError(f"explain.namer is {namer!r}, but that is no function.")
    return found  # type: ignore[no-any-return]


def describe_for_namer(persona: Persona, domain: str, earlier_name: str | None) -> dict[str, Any]:
    """Return what a function is told of one cluster, as plain values that JSON can hold.

    `cluster`, its number; `size` and `share`; `domain`, what the rows are called; `name`, the engine's own;
    `earlier_name`, what the function called it in the run before, or None; `sentences`; `traits`, of which each has
    `what`, `here`, `everybody` and the standardized `difference`; `typical`, columns and values of a composed member;
    and `interests`.
    """
    return {
        "cluster": persona.cluster,
        "size": persona.size,
        "share": round(persona.share, 4),
        "domain": domain,
        "name": persona.automatic_name or persona.name,
        "earlier_name": earlier_name,
        "sentences": list(persona.sentences),
        "traits": [
            {
                "what": row.what,
                "here": row.here,
                "everybody": row.everybody,
                "difference": round(row.difference, 2),
            }
            for row in persona.profile
        ],
        "typical": dict(persona.typical),
        "interests": list(persona.interests),
    }


def ask_for_names(
    namer: Namer, clusters: list[dict[str, Any]], others: Mapping[int, str], seconds: float
) -> AskedNames:
    """Call the function once with all clusters, and check what it returns.

    Parameters
    ----------
    namer : callable
        Takes a list of what describe_for_namer returns; returns a mapping of number to name. Clusters that it leaves
        out, or calls None, keep the engine's own name.
    clusters : list of dict
        As describe_for_namer returns them.
    others : mapping of number to name
        The names that all clusters of the run have if none is taken.
    seconds : float
        How long it may take.

    Returns
    -------
    AskedNames
    """
    asked = AskedNames(function_name(namer), len(clusters))
    if not clusters:
        return asked
    try:
        answer = _call(namer, clusters, seconds)
    except _NoAnswerError as error:
        asked.refused.append(str(error))
        return asked
    if not isinstance(answer, Mapping):
        asked.refused.append(f"it returned {type(answer).__name__}, not a dict of cluster numbers and names")
        return asked
    by_number = {_number(key): name for key, name in answer.items()}
    sizes = {facts["cluster"]: facts["size"] for facts in clusters}
    unknown = sorted(str(number)[:20] for number in by_number if number not in sizes)
    if unknown:
        asked.refused.append(f"it named clusters that it was not asked about: {', '.join(unknown[:5])}")
    for number in sorted(sizes, key=lambda number: (-sizes[number], number)):
        name = by_number.get(number)
        if name is None:
            continue
        fault = _fault_of(name) or _taken(name, number, others, asked.names)
        if fault:
            asked.refused.append(f"cluster {number}: {fault}")
        else:
            asked.names[number] = " ".join(str(name).split())
    return asked


class _NoAnswerError(Exception):
    """The function failed or took too long; the message says which."""


def _call(namer: Namer, clusters: list[dict[str, Any]], seconds: float) -> Any:
    """Return what the function returns; a thread of its own lets a fit go on when it hangs."""
    outcome: dict[str, Any] = {}

    def call() -> None:
        try:
            outcome["answer"] = namer(clusters)
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=call, name="explain.namer", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise _NoAnswerError(f"it had not answered after {seconds:g} seconds (explain.namer_seconds)")
    if "error" in outcome:
        error = outcome["error"]
        raise _NoAnswerError(f"it raised {type(error).__name__}: {printable_text(str(error))[:200]}") from error
    return outcome["answer"]


def _number(key: Any) -> Any:
    """Return a key as the number of a cluster: JSON has keys of text only."""
    return int(key) if isinstance(key, str) and key.strip().isdecimal() else key


def _fault_of(name: Any) -> str | None:
    """Return what is wrong with a name by itself, None if nothing is."""
    if not isinstance(name, str):
        return f"a name must be a text, not {type(name).__name__}"
    words = " ".join(name.split())
    if not words:
        return "the name is empty"
    if len(words) > MAX_LENGTH:
        return f"the name has {len(words)} letters, and {MAX_LENGTH} is the most"
    if printable_text(words) != words:
        return "the name has control characters"
    return None


def _taken(name: str, number: int, others: Mapping[int, str], taken: Mapping[int, str]) -> str | None:
    """Return who has a name already, None if nobody has: names tell clusters apart."""
    words = " ".join(name.split()).casefold()
    for other, known in {**others, **taken}.items():
        if other != number and known.casefold() == words:
            return f"cluster {other} is called “{printable_text(known)}” already"
    return None

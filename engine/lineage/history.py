"""The history of a run's clusters: when each number was first used, of which parents, under which names, until when.

    History of the earlier run, moves of people  ->  numbers of tonight's clusters, and the History of tonight

A cluster keeps its number while it is matched to the cluster that had it (matching.py) and both hold a fifth of the
other's people. Other clusters get new numbers; a number is never used again. A run that continues no other begins a
history: its clusters are born in night 0. `lineage.json` in a run directory holds the history; it depends on nothing
but the runs, so a night that is computed again has the same.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import ModelNotReadableError
from engine.lineage.matching import UNMATCHED, Counts, match_clusters
from engine.model.files import model_version
from engine.report.contents import read_cluster_names
from engine.run import Run
from engine.utils.array_types import Int32s
from engine.utils.domain_words import DEFAULT_WORDS, DomainWords
from engine.utils.formatting import format_percent, natural_list, printable_text

FILE = "lineage.json"
FORMAT = 1
SHOWN_SIZES = 8  # sizes of a cluster that a line has room for
MIN_PART = 0.2  # share of its people that a cluster has in common with the one whose number it keeps, both ways


@dataclass(frozen=True)
class ClusterHistory:
    """The history of one number.

    Attributes
    ----------
    number : int
    born : int
        The night in which it was first used.
    parents : tuple of int
        Numbers of the night before from which a fifth of its people or more came; empty if it is made of newcomers.
    names : tuple of (int, str)
        Its names, each with the night from which it had it.
    died : int or None
        The night from which no cluster has it.
    """

    number: int
    born: int
    parents: tuple[int, ...] = ()
    names: tuple[tuple[int, str], ...] = ()
    died: int | None = None

    @property
    def name(self) -> str | None:
        """The last of its names."""
        return self.names[-1][1] if self.names else None


@dataclass(frozen=True)
class Night:
    """One run of a history.

    Attributes
    ----------
    night : int
    model : str
        The beginning of the checksum of the run's model.
    rows : int
    sizes : dict of number to size
    stayed, moved : int
        People who were in the run before as well, and those of them whose cluster has another number now.
    choice : dict
        Why the clusters are what they are: see pipeline/continuation.py.
    """

    night: int
    model: str
    rows: int
    sizes: dict[int, int]
    stayed: int = 0
    moved: int = 0
    choice: dict[str, Any] | None = None


@dataclass(frozen=True)
class History:
    """The nights of a run and of those before it, and the history of every number, in ascending order."""

    nights: tuple[Night, ...]
    clusters: tuple[ClusterHistory, ...]

    @property
    def night(self) -> int:
        """The number of the last night."""
        return self.nights[-1].night

    @property
    def next_number(self) -> int:
        """The number of the next cluster that is born."""
        return self.clusters[-1].number + 1

    @classmethod
    def begin(cls, run: Run) -> History:
        """Return the history of a run that continues no other."""
        numbers, sizes = run.clusters["cluster"].to_pylist(), run.clusters["size"].to_pylist()
        night = Night(
            0, model_version(run.path / "model"), run.manifest["rows"], dict(zip(numbers, sizes, strict=True))
        )
        names = read_cluster_names(run.path, numbers)
        explained = (run.path / "personas.json").is_file()
        clusters = (
            ClusterHistory(number, 0, names=((0, name),) if explained else ())
            for number, name in zip(numbers, names, strict=True)
        )
        return cls((night,), tuple(clusters))

    @classmethod
    def read(cls, run: Run) -> History:
        """Read a run's history, or begin one.

        Raises
        ------
        ModelNotReadableError
            If lineage.json is damaged, or of a newer format.
        """
        path = run.path / FILE
        if not path.is_file():
            return cls.begin(run)
        try:
            return cls.from_text(path.read_text(encoding="utf-8"))
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise ModelNotReadableError(
                f"{path} cannot be read: {error}.", hint="it was written by `rooms fit --previous`; fit that run again."
            ) from error

    @classmethod
    def from_text(cls, text: str) -> History:
        """Return the history that `to_text` wrote; raise ValueError, KeyError or TypeError if it is none."""
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise ValueError(f"its format is {document['format']}")
        nights = (
            Night(**night | {"sizes": {int(number): size for number, size in night["sizes"].items()}})
            for night in document["nights"]
        )
        clusters = (
            ClusterHistory(
                **cluster
                | {
                    "parents": tuple(cluster["parents"]),
                    "names": tuple((night, name) for night, name in cluster["names"]),
                }
            )
            for cluster in document["clusters"]
        )
        return cls(tuple(nights), tuple(clusters))

    def to_text(self) -> str:
        """Return the content of lineage.json."""
        return json.dumps({"format": FORMAT, **self.facts()}, indent=1, ensure_ascii=False) + "\n"

    def write(self, folder: Path) -> None:
        """Write lineage.json into a folder."""
        (folder / FILE).write_text(self.to_text(), encoding="utf-8")

    def facts(self) -> dict[str, Any]:
        """Return the history as plain values."""
        return {
            "nights": [asdict(night) for night in self.nights],
            "clusters": [asdict(cluster) for cluster in self.clusters],
        }

    def describe(self, words: DomainWords = DEFAULT_WORDS) -> str:
        """Return the history as text: a line for every night, and one for every cluster; rows are called `words`."""
        nights = [
            f"night {night.night}: {words.count(night.rows)}, {len(night.sizes)} clusters" + _night_words(night)
            for night in self.nights
        ]
        return "\n".join([*nights, "", *(self._cluster_words(cluster) for cluster in self.clusters)])

    def _cluster_words(self, cluster: ClusterHistory) -> str:
        sizes = [f"{night.sizes[cluster.number]:,}" for night in self.nights if cluster.number in night.sizes]
        shown = sizes if len(sizes) <= SHOWN_SIZES else [*sizes[:2], "…", *sizes[2 - SHOWN_SIZES :]]
        name = "" if cluster.name is None else f" “{printable_text(cluster.name)}”"
        words = [f"{cluster.number}{name}: {' → '.join(shown)}"]
        if cluster.born:
            origin = f" out of {natural_list([str(number) for number in cluster.parents])}" if cluster.parents else ""
            words.append(f"born in night {cluster.born}{origin}")
        words += [] if cluster.died is None else [f"gone since night {cluster.died}"]
        words += [f"renamed in night {night}" for night, _ in cluster.names[1:]]
        return "; ".join(words)

    def next_night(
        self,
        numbers: Int32s,
        parents: dict[int, tuple[int, ...]],
        names: list[str] | None,
        night: Night,
    ) -> History:
        """Return this history with one more night.

        Parameters
        ----------
        numbers : int32 array of shape (n_clusters,)
            Of tonight's clusters.
        parents : dict of number to numbers
            Parents of the clusters born tonight.
        names : list of str or None
            Names of tonight's clusters, if they have any.
        night : Night
            Tonight.
        """
        named = {} if names is None else dict(zip(numbers.tolist(), names, strict=True))
        clusters = [self._tomorrow(cluster, numbers, named, night.night) for cluster in self.clusters]
        born = sorted(set(numbers.tolist()) - {cluster.number for cluster in self.clusters})
        clusters += [
            ClusterHistory(
                number, night.night, parents[number], ((night.night, named[number]),) if number in named else ()
            )
            for number in born
        ]
        return History((*self.nights, night), tuple(clusters))

    def renamed_tonight(self, number: int, name: str) -> History:
        """Return this history with another name of a cluster in its last night."""

        def rename(cluster: ClusterHistory) -> ClusterHistory:
            before = tuple((night, known) for night, known in cluster.names if night != self.night)
            same = bool(before) and before[-1][1] == name
            return replace(cluster, names=before if same else (*before, (self.night, name)))

        clusters = (rename(cluster) if cluster.number == number else cluster for cluster in self.clusters)
        return replace(self, clusters=tuple(clusters))

    @staticmethod
    def _tomorrow(cluster: ClusterHistory, numbers: Int32s, named: dict[int, str], night: int) -> ClusterHistory:
        if cluster.died is not None:
            return cluster
        if cluster.number not in numbers:
            return replace(cluster, died=night)
        name = named.get(cluster.number)
        if name is None or name == cluster.name:
            return cluster
        return replace(cluster, names=(*cluster.names, (night, name)))


def _night_words(night: Night) -> str:
    words = f", {format_percent(night.moved / night.stayed)} of {night.stayed:,} moved" if night.stayed else ""
    return words + ("" if night.choice is None else f"; {night.choice['why']}")


def number_clusters(moves: Counts, old_numbers: Int32s, next_number: int) -> tuple[Int32s, dict[int, tuple[int, ...]]]:
    """Return the numbers of new clusters, and the parents of those born now.

    Parameters
    ----------
    moves : int64 array of shape (n_old, n_new)
        People by their old and new cluster.
    old_numbers : int32 array of shape (n_old,)
    next_number : int
        The first number that was never used.

    Returns
    -------
    numbers : int32 array of shape (n_new,)
        Not sorted.
    parents : dict of number to numbers
    """
    numbers = np.full(moves.shape[1], -1, np.int32)
    of_old = moves / np.maximum(moves.sum(axis=1, keepdims=True), 1)
    of_new = moves / np.maximum(moves.sum(axis=0, keepdims=True), 1)
    for old, new in enumerate(match_clusters(moves).tolist()):
        if new != UNMATCHED and min(of_old[old, new], of_new[old, new]) >= MIN_PART:
            numbers[new] = old_numbers[old]
    born = np.flatnonzero(numbers < 0)
    numbers[born] = next_number + np.arange(len(born))
    parents = {
        int(numbers[new]): tuple(old_numbers[np.flatnonzero(of_new[:, new] >= MIN_PART)].tolist()) for new in born
    }
    return numbers, parents

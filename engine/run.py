"""A finished run, read back: its manifest, its tables, and its model."""

from __future__ import annotations

import json
import os
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from engine.errors import ModelNotReadableError, NotExplainedError, NotMappedError
from engine.utils.formatting import clean, percent
from engine.utils.html_table import html_table

if TYPE_CHECKING:
    from engine.model.model import Model


class Run:
    """A run directory.

    Parameters
    ----------
    path : path
        What `engine.fit` or `rooms fit` wrote.

    Raises
    ------
    ModelNotReadableError
        If the directory is not a complete run.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not (self.path / "_SUCCESS").is_file():
            raise ModelNotReadableError(
                f"{self.path} is not a complete run directory.", hint="give the folder that `rooms fit --out` named."
            )

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, rows={self.manifest['rows']}, clusters={self.manifest['clusters']})"

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What was run, on what, and what it took."""
        manifest: dict[str, Any] = json.loads((self.path / "manifest.json").read_text())
        return manifest

    @cached_property
    def model(self) -> Model:
        """The model that assigns new users."""
        from engine.model.model import Model

        return Model.read(self.path / "model", self.path / "map")

    @property
    def assignments(self) -> pa.Table:
        """All assignments: id, cluster, distance, runner_up, margin, outlier. Read anew at every call."""
        return pq.read_table(self.path / "assignments")

    @cached_property
    def clusters(self) -> pa.Table:
        """One row a cluster: size, share, inertia, and its centre in the units people know."""
        return pq.read_table(self.path / "clusters.parquet")

    @cached_property
    def personas(self) -> list[dict[str, Any]]:
        """One a cluster: name, sentences, typical member, interests, contrasts; a portrait of the community persona."""
        found: list[dict[str, Any]] = self._explained("personas.json")["personas"]
        return found

    @cached_property
    def rules(self) -> dict[str, Any]:
        """Rules of every cluster with precision and coverage, the overview tree, the full tree, and their fidelity."""
        return self._explained("rules.json")

    @cached_property
    def map(self) -> pa.Table:
        """The landmarks of the map: id, cluster, map_x, map_y."""
        return pq.read_table(self.path / "map.parquet")

    @cached_property
    def elbow(self) -> pa.Table:
        """The sweep over k: inertia, silhouette, Calinski-Harabasz and Davies-Bouldin."""
        return pyarrow.csv.read_csv(self.path / "elbow.csv")

    def plot_map(self) -> Any:
        """Return the map as a plotly figure.

        Raises
        ------
        NotMappedError
            If the run has no map.
        """
        from engine.report.charts import figure
        from engine.report.contents import cluster_names, read_map

        path = self.path / "map.parquet"
        if not path.is_file():
            raise NotMappedError(f"{self.path} has no map.", hint="fit again without --skip map.")
        names = cluster_names(self.path, self.manifest["clusters"])
        return figure(read_map(path, names, self.clusters["size"].to_pylist()))

    def plot_elbow(self) -> Any:
        """Return inertia and three scores over k, the chosen k marked, as a plotly figure."""
        from engine.report.charts import elbow_chart, figure

        return figure(elbow_chart(self.elbow.to_pydict()))

    def report(self) -> Path:
        """Make report.html anew, and return its path."""
        from engine.report.html_report import write_report

        return write_report(self.path)

    def _repr_html_(self) -> str:
        """Return the run as a notebook shows it: what was run, and a line a cluster."""
        from engine.report.contents import cluster_names
        from engine.report.palette import palette

        manifest = self.manifest
        seconds = sum(stage["seconds"] for stage in manifest["stages"])
        head = (
            f"{manifest['clusters']} clusters of {manifest['rows']:,} people; {manifest['components']} components, "
            f"{percent(manifest['variance_explained'])} of the variance; {seconds:.1f} s on {manifest['device']}"
        )
        names, colours = cluster_names(self.path, manifest["clusters"]), palette(manifest["clusters"])
        sizes = zip(self.clusters["size"].to_pylist(), self.clusters["share"].to_pylist(), strict=True)
        rows = [
            [
                f'<span style="color:{colours[c]}">\u25a0</span> {c}',
                escape(clean(names[c])),
                f"{size:,}",
                percent(share),
            ]
            for c, (size, share) in enumerate(sizes)
        ]
        return html_table(f"Run {self.path}", head, ("cluster", "persona", "people", "share"), rows)

    def _explained(self, name: str) -> dict[str, Any]:
        try:
            document: dict[str, Any] = json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise NotExplainedError(
                f"{self.path} was made with --skip explain: it has no {name}.", hint="fit again without the skip."
            ) from error
        return document


def load(path: str | os.PathLike[str]) -> Model:
    """Load the model of a run directory, to assign new users with.

    Raises
    ------
    ModelNotReadableError
        If the directory is not a complete run, or its model is damaged or of another format.
    """
    return Run(path).model

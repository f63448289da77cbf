"""Read a finished run: its manifest, its tables and its model."""

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
from engine.utils.formatting import format_percent, printable_text
from engine.utils.html_table import html_table

if TYPE_CHECKING:
    from engine.model.model import Model


class Run:
    """A run directory.

    Parameters
    ----------
    path : path
        The directory that `engine.fit` or `rooms fit` wrote.

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
        """Settings, input, results and measured stages of the run, as in manifest.json."""
        manifest: dict[str, Any] = json.loads((self.path / "manifest.json").read_text())
        return manifest

    @cached_property
    def model(self) -> Model:
        """The model that assigns new rows."""
        from engine.model.model import Model

        return Model.read(self.path / "model", self.path / "map")

    @property
    def assignments(self) -> pa.Table:
        """All assignments: id, cluster, distance, runner_up, margin, its odds, outlier. Read again at every call."""
        return pq.read_table(self.path.absolute() / "assignments")

    @cached_property
    def clusters(self) -> pa.Table:
        """One row a cluster: size, share, inertia, and its center in the units of the table."""
        return pq.read_table(self.path.absolute() / "clusters.parquet")

    @cached_property
    def personas(self) -> list[dict[str, Any]]:
        """One dict a cluster: name, sentences, typical member, interests, contrasts; a portrait of the community."""
        personas: list[dict[str, Any]] = self._read_explanation("personas.json")["personas"]
        return personas

    @cached_property
    def rules(self) -> dict[str, Any]:
        """Rules of every cluster with precision and coverage, the overview tree, the full tree, and their fidelity."""
        return self._read_explanation("rules.json")

    @cached_property
    def features(self) -> list[dict[str, Any]]:
        """One dict a feature: its importance, its value and difference in every cluster, as in features.json."""
        features: list[dict[str, Any]] = self._read_explanation("features.json")["features"]
        return features

    @cached_property
    def map(self) -> pa.Table:
        """The landmarks of the map: id, cluster, map_x, map_y."""
        return pq.read_table(self.path.absolute() / "map.parquet")

    @cached_property
    def elbow(self) -> pa.Table:
        """The sweep over k: inertia, silhouette, Calinski-Harabasz, Davies-Bouldin, stability, chosen and runner-up."""
        return pyarrow.csv.read_csv(self.path.absolute() / "elbow.csv")

    def plot_map(self) -> Any:
        """Return the map as a plotly figure.

        Raises
        ------
        NotMappedError
            If the run has no map.
        """
        from engine.report.charts import to_plotly_figure
        from engine.report.contents import read_cluster_names, read_domain_words, read_map_chart

        path = self.path / "map.parquet"
        if not path.is_file():
            raise NotMappedError(f"{self.path} has no map.", hint="fit again without --skip map.")
        numbers = self.clusters["cluster"].to_pylist()
        names, sizes = read_cluster_names(self.path, numbers), self.clusters["size"].to_pylist()
        return to_plotly_figure(read_map_chart(path, names, sizes, numbers, read_domain_words(self.path)))

    def plot_elbow(self) -> Any:
        """Return inertia and four scores over k, with the chosen k marked, as a plotly figure."""
        from engine.report.charts import elbow_chart, to_plotly_figure

        return to_plotly_figure(elbow_chart(self.elbow.to_pydict()))

    def report(self) -> Path:
        """Write report.html again, and return its path."""
        from engine.report.html_report import write_report

        return write_report(self.path)

    def _repr_html_(self) -> str:
        """Return the run as HTML for notebooks: a summary, and one line a cluster."""
        from engine.report.contents import read_cluster_names
        from engine.report.palette import palette

        manifest = self.manifest
        seconds = sum(stage["seconds"] for stage in manifest["stages"])
        head = (
            f"{manifest['clusters']} clusters of {manifest['rows']:,} people; {manifest['components']} components, "
            f"{format_percent(manifest['variance_explained'])} of the variance; {seconds:.1f} s on {manifest['device']}"
        )
        numbers = self.clusters["cluster"].to_pylist()
        names, colors = read_cluster_names(self.path, numbers), palette(numbers)
        sizes = zip(self.clusters["size"].to_pylist(), self.clusters["share"].to_pylist(), strict=True)
        rows = [
            [
                f'<span style="color:{colors[c]}">\u25a0</span> {numbers[c]}',
                escape(printable_text(names[c])),
                f"{size:,}",
                format_percent(share),
            ]
            for c, (size, share) in enumerate(sizes)
        ]
        return html_table(f"Run {self.path}", head, ("cluster", "persona", "people", "share"), rows)

    def _read_explanation(self, name: str) -> dict[str, Any]:
        try:
            document: dict[str, Any] = json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise NotExplainedError(
                f"{self.path} was made with --skip explain: it has no {name}.", hint="fit again without the skip."
            ) from error
        return document


def load(path: str | os.PathLike[str]) -> Model:
    """Load the model of a run directory, which assigns new rows.

    Raises
    ------
    ModelNotReadableError
        If the directory is not a complete run, or its model is damaged or of another format.
    """
    return Run(path).model

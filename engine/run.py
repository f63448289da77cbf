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

from engine.errors import ModelNotReadableError, NotExplainedError, NotMappedError, UsageError
from engine.utils.formatting import format_percent, printable_text
from engine.utils.html_table import html_table
from engine.utils.similar_paths import suggest_path

if TYPE_CHECKING:
    from engine.blocks import Table
    from engine.explain.person.why import Why
    from engine.model.model import Model
    from engine.model.similar import ScoredRows


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
                f"{self.path} is not a complete run directory.",
                hint=suggest_path(self.path) or "give the folder that `rooms fit --out` named.",
            )

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, rows={self.manifest['rows']}, clusters={self.manifest['clusters']})"

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Settings, input, results and measured stages of the run, as in manifest.json."""
        from engine.model.new_rows import read_manifest

        return read_manifest(self.path)

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

    def export_rules(
        self,
        *,
        dialect: str = "duckdb",
        relation: str = "profiles",
        id: str | None = None,
        table: Any = None,
        out: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
    ) -> str | Path:
        """Write the rules of the clusters and the full tree as SQL of a database: rules.sql in any dialect.

        Parameters
        ----------
        dialect : {"duckdb", "postgres", "sqlite", "spark", "bigquery", "snowflake"}, default="duckdb"
        relation : str, default="profiles"
            The table in the database, as it is written in a statement.
        id : str, optional
            The column that is passed through. By default the id of the run; without one, all columns are.
        table : path, URL, list of them, or a pandas, polars or pyarrow table, optional
            It has the columns in the types of the database. By default the files that the run was made of.
        out : path, optional
            A file to write.
        overwrite : bool, default=False

        Returns
        -------
        str, the two statements; or the path written.

        Raises
        ------
        NotExplainedError
            If the run was made with --skip explain.
        UsageError
            If the dialect is unknown, or cannot read columns that the rules test: it names them.
        OutputExistsError, OutputOverlapError
            If `out` exists already, or is the table or a file of the run.
        SourceNotFoundError, InputChangedError, MissingColumnError, RetypedColumnError, DataError
            Of the table.
        """
        from engine.explain.export_sql import to_sql
        from engine.model.export import check_export_path, find_dialect, open_typed_table
        from engine.utils.atomic_files import write_atomically

        if out is not None:
            check_export_path(Path(out), self.path, table, overwrite=overwrite)
        rules, chosen = self.rules, find_dialect(dialect)
        schema, key = open_typed_table(self.model, table).schema, self.model.id if id is None else id
        text = to_sql(rules, self.model.encoder.plan, schema, key, chosen, relation)
        if out is None:
            return text
        with write_atomically(Path(out)) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return Path(out)

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

    def why(self, id: Any, *, table: Any = None) -> Why:
        """Return why a person is in their cluster: persona, rule, runner-up, and the least change that moves them.

        Parameters
        ----------
        id : scalar
            The person's id, or the number of their row if the run has no id column.
        table : path, URL, list of them, or a pandas, polars or pyarrow table, optional
            Where their profile is. By default the files that the run was made of, unchanged.

        Returns
        -------
        Why

        Raises
        ------
        PersonNotFoundError
            If nobody in the run or in the table has the id.
        SourceNotFoundError, InputChangedError, UsageError
            If the run's own table is gone, has changed, or was a data frame.
        MissingColumnError, RetypedColumnError, DataError
        """
        from engine.config import FitConfig
        from engine.explain.person.why import explain_person
        from engine.model.assignments import ROW
        from engine.tables import open_table
        from engine.tables.find_row import find_row, read_row

        id_name = self.model.id or ROW
        people = open_table(self.path / "assignments", id=id_name)
        found = read_row(people, find_row(people, id_name, id, f"Run {self.path}"), [id_name, "cluster"])
        profiles = self.open_table(table)
        row = read_row(profiles, find_row(profiles, self.model.id, id, "The table"), self.model.encoder.columns)
        rules = self.rules["clusters"] if (self.path / "rules.json").is_file() else None
        settings = FitConfig.read(self.path / "config.yaml")
        return explain_person(
            self.model, settings, rules, self.names, found[id_name][0].as_py(), found["cluster"][0].as_py(), row
        )

    @property
    def names(self) -> dict[int, str]:
        """The name of each cluster by its number."""
        from engine.report.contents import read_cluster_names

        numbers = self.clusters["cluster"].to_pylist()
        return dict(zip(numbers, read_cluster_names(self.path, numbers), strict=True))

    def open_table(self, table: Any = None) -> Table:
        """Open a table for the run's model; by default the one that the run was made of.

        Raises
        ------
        SourceNotFoundError, InputChangedError, UsageError
            If the run's own table is gone, has changed, or was a data frame.
        MissingColumnError, RetypedColumnError, DataError
        """
        from engine.tables.recorded_table import open_recorded_table

        if table is not None:
            return self.model.open_table(table, id=self.model.id)
        encoder = self.model.encoder
        types = encoder.csv_types()
        opened = open_recorded_table(self.manifest["input"], str(self.path), id=self.model.id, types=types)
        encoder.check_schema(opened.schema)
        return opened

    @cached_property
    def scored_people(self) -> ScoredRows:
        """The scores of all people of the run, in memory: 6 bytes a component and person, and the ids."""
        from engine.model.similar import load_scores

        return load_scores(self.model, self.open_table())

    def _repr_html_(self) -> str:
        """Return the run as HTML for notebooks: a summary, and one line a cluster."""
        from engine.report.contents import read_cluster_names, read_domain_words
        from engine.report.palette import palette

        manifest, words = self.manifest, read_domain_words(self.path)
        seconds = sum(stage["seconds"] for stage in manifest["stages"])
        head = (
            f"{manifest['clusters']} clusters of {words.count(manifest['rows'])}; {manifest['components']} components, "
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
        return html_table(f"Run {self.path}", head, ("cluster", "persona", words.plural, "share"), rows)

    def _read_explanation(self, name: str) -> dict[str, Any]:
        try:
            document: dict[str, Any] = json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise NotExplainedError(
                f"{self.path} was made with --skip explain: it has no {name}.", hint="fit again without the skip."
            ) from error
        except (OSError, ValueError) as error:
            raise ModelNotReadableError(f"{name} of {self.path} cannot be read.", hint="fit again.") from error
        return document


def load(path: str | os.PathLike[str]) -> Model:
    """Load the model of a run directory, which assigns new rows.

    Raises
    ------
    ModelNotReadableError
        If the directory is not a complete run, or its model is damaged or of another format.
    """
    return Run(path).model


def similar(
    run: Run | str | os.PathLike[str], id: Any, n: int = 10, *, same_cluster: bool = False, table: Any = None
) -> pa.Table:
    """Return the people nearest to one person by their scores: who would enjoy their company.

    The scores are those that the clusters are made of, so every source column weighs what it weighs there. Distances
    are exact, and ties go to the rows that come first in the table.

    Parameters
    ----------
    run : Run or path of a run directory
        A Run keeps the scores of its people in memory from the first call on, which makes later ones quick. A path, or
        a `table`, is read in one pass, block by block.
    id : scalar
        The person's id, or the number of their row if the run has no id column.
    n : int, default=10
    same_cluster : bool, default=False
        Whether only people of the same cluster are looked at.
    table : path, URL, list of them, or a pandas, polars or pyarrow table, optional
        Where the profiles are. By default the files that the run was made of, unchanged.

    Returns
    -------
    pyarrow.Table of id, cluster and distance, the nearest first; fewer than n rows if there are fewer people.

    Raises
    ------
    UsageError
        If n is less than 1, or the run was made of a data frame.
    PersonNotFoundError
        If nobody in the table has the id.
    SourceNotFoundError, InputChangedError
        If the run's own table is gone or has changed.
    MissingColumnError, RetypedColumnError, DataError
    """
    from engine.model.similar import find_similar, find_similar_in_table

    if n < 1:
        raise UsageError(f"n is {n}, but it has to be 1 or more.")
    if isinstance(run, Run) and table is None:
        return find_similar(run.model, run.scored_people, id, n, same_cluster=same_cluster)
    run = run if isinstance(run, Run) else Run(run)
    return find_similar_in_table(run.model, run.open_table(table), id, n, same_cluster=same_cluster)

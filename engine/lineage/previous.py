"""The run that a fit continues: its model, and the history of its clusters."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass

import pyarrow as pa

from engine.config import FeaturesConfig, FitConfig, PCAConfig
from engine.errors import IdColumnError, MissingColumnError, RetypedColumnError, UsageError
from engine.features.column_roles import ColumnRole
from engine.features.column_weights import ColumnWeights
from engine.lineage.history import History
from engine.model.model import Model
from engine.run import Run
from engine.tables.vector_columns import vector_name
from engine.utils.formatting import capitalize_first

SHOWN_COLUMNS = 5
MOVER_COLUMNS = (  # of movers.parquet, beside the id
    "event", "old_cluster", "new_cluster", "old_name", "new_name", "margin", "runner_up", "runner_up_odds", "columns",
    "run", "previous_run", "time",
)  # fmt: skip
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreviousRun:
    """A run that another one continues.

    Attributes
    ----------
    run : Run
    model : Model
    history : History
    """

    run: Run
    model: Model
    history: History

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> PreviousRun:
        """Read a run directory.

        Raises
        ------
        ModelNotReadableError
            If it is not a complete run, or a file of it is damaged.
        """
        run = Run(path)
        return cls(run, run.model, History.read(run))

    @property
    def roles(self) -> list[ColumnRole]:
        """The roles of the columns of its table."""
        return [ColumnRole(**role) for role in self.run.manifest["columns"]]

    @property
    def weights(self) -> ColumnWeights:
        """The weights of its columns."""
        manifest, plans = self.run.manifest, self.model.encoder.plan.columns
        by_column = {plan.column: plan.weight for plan in plans}
        return ColumnWeights.from_facts(by_column, manifest["groups"], manifest["repeated_columns"])

    @property
    def names(self) -> dict[int, str]:
        """The names of its clusters by number."""
        return {c.number: c.name for c in self.history.clusters if c.died is None and c.name is not None}

    @property
    def n_people(self) -> int:
        """The number of its rows."""
        return int(self.run.manifest["rows"])

    @property
    def run_id(self) -> str | None:
        """The id of the run; None if it was made before runs had ids."""
        run_id: str | None = self.run.manifest.get("run_id")
        return run_id

    @property
    def digest(self) -> str:
        """A digest of what the run is: of its manifest, which has digests of ids and model figures, and its names."""
        files = (self.run.path / name for name in ("manifest.json", "config.yaml"))
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()

    def carry_names(self, settings: FitConfig) -> FitConfig:
        """Return settings with the names that `rooms rename` gave clusters of the run that live."""
        alive = {cluster.number for cluster in self.history.clusters if cluster.died is None}
        kept = FitConfig.read(self.run.path / "config.yaml").renamed
        carried = {number: given for number, given in kept.items() if number in alive}
        return settings.model_copy(update={"renamed": carried | settings.renamed})

    @property
    def descriptions(self) -> dict[int, str]:
        """The names that the engine has for clusters whose name people gave, by number."""
        if not (self.run.path / "personas.json").is_file():
            return {}
        return {p["cluster"]: p["automatic_name"] for p in self.run.personas if "automatic_name" in p}

    def check(self, settings: FitConfig) -> None:
        """Check that a fit with these settings can continue the run; warn of settings that it does not follow.

        Raises
        ------
        IdColumnError
            If it tells rows apart by another column.
        UsageError
            If it clusters by another metric, or the id column is named like one of movers.parquet.
        """
        if settings.id != self.model.id:
            raise IdColumnError(
                f"{self.run.path} tells rows apart by {_id_words(self.model.id)}, and this fit by "
                f"{_id_words(settings.id)}.",
                hint="fit without --id." if self.model.id is None else f"fit with --id {self.model.id}.",
            )
        if settings.id in MOVER_COLUMNS:
            raise UsageError(
                f"The id column is named {settings.id!r}, as a column that movers.parquet has beside the ids.",
                hint="rename the column in the table, for example to 'user_id', and begin a new history.",
            )
        if settings.kmeans.metric != self.model.metric:
            raise UsageError(
                f"{self.run.path} is clustered by metric {self.model.metric}, and this fit by "
                f"{settings.kmeans.metric}: clusters of one are not those of the other.",
                hint=f"fit with --metric {self.model.metric}, or without --previous.",
            )
        self._warn_of_kept(settings)

    def check_columns(self, schema: pa.Schema, id: str | None) -> None:
        """Check that a table has the columns of the kept encoder; warn of those that it knows nothing of.

        Raises
        ------
        MissingColumnError, RetypedColumnError
            If the table lacks columns, or holds something else in them.
        """
        try:
            self.model.encoder.check_schema(schema)
        except (MissingColumnError, RetypedColumnError) as error:
            raise type(error)(
                f"{error.message} The columns of {self.run.path} are kept.",
                hint=f"--refit-features takes the columns as they are now. {capitalize_first(error.hint or '')}",
            ) from error
        known = {role.column for role in self.roles} | {id}
        vectors = {role.vector for role in self.roles}
        new = [f.name for f in schema if f.name not in known and (vector_name(f) or f.name) not in vectors]
        if new:
            named = ", ".join(map(repr, new[:SHOWN_COLUMNS])) + (" …" if len(new) > SHOWN_COLUMNS else "")
            logger.warning(
                "Columns that %s did not have are left out: %s. --refit-features uses them.", self.run, named
            )

    def _warn_of_kept(self, settings: FitConfig) -> None:
        """Warn of settings of features and components that differ from the run's, which are kept."""
        if settings.lineage.refit_features:
            return
        kept = FitConfig.read(self.run.path / "config.yaml")
        asked = {"features": FeaturesConfig(), "pca": PCAConfig()}
        differing = [
            name
            for name, default in asked.items()
            if getattr(settings, name) != default and getattr(settings, name) != getattr(kept, name)
        ]
        if differing:
            logger.warning(
                "Settings of %s are not followed: those of %s are kept. --refit-features follows them.",
                " and ".join(differing), self.run.path,
            )  # fmt: skip


def _id_words(id: str | None) -> str:
    return "their rows" if id is None else f"column {id!r}"

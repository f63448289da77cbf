"""The run that a fit continues: its model, and the history of its clusters."""

from __future__ import annotations

import os
from dataclasses import dataclass

from engine.config import FitConfig
from engine.errors import IdColumnError, UsageError
from engine.features.column_roles import ColumnRole
from engine.features.column_weights import ColumnWeights
from engine.lineage.history import History
from engine.model.model import Model
from engine.run import Run


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

    def check(self, settings: FitConfig) -> None:
        """Raise IdColumnError if a fit with these settings tells people apart by another column.

        Raises
        ------
        UsageError
            If it clusters by another metric.
        """
        if settings.id != self.model.id:
            raise IdColumnError(
                f"{self.run.path} tells people apart by {_id_words(self.model.id)}, and this fit by "
                f"{_id_words(settings.id)}.",
                hint="fit without --id." if self.model.id is None else f"fit with --id {self.model.id}.",
            )
        if settings.kmeans.metric != self.model.metric:
            raise UsageError(
                f"{self.run.path} is clustered by metric {self.model.metric}, and this fit by "
                f"{settings.kmeans.metric}: clusters of one are not those of the other.",
                hint=f"fit with --metric {self.model.metric}, or without --previous.",
            )


def _id_words(id: str | None) -> str:
    return "their rows" if id is None else f"column {id!r}"

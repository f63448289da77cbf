"""The gate of new rows: are they enough like the table of the fit to be assigned?

ScoredRows, distributions of the fit, limits  ->  a warning, or an error before anything is published
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass

from engine.config import ScoringLimits
from engine.errors import GateStoppedError, ModelNotReadableError
from engine.features.distributions import TableDistributions
from engine.gate.columns import compare_columns
from engine.gate.scored_rows import ScoredRows
from engine.utils.array_types import Int64s

SHOWN_FINDINGS = 5
NO_DISTRIBUTIONS = "The model was fitted by a version that kept no statistics of its table"

logger = logging.getLogger(__name__)


class DriftedRowsWarning(UserWarning):
    """Warns of columns that are distributed in another way than in the table that the model was fitted on."""


@dataclass(frozen=True)
class RowGate:
    """The gate of new rows: a warning if they are not like the table of the fit, or an error if it `stops` them."""

    fitted: TableDistributions
    limits: ScoringLimits
    stops: bool

    @classmethod
    def of(cls, fitted: TableDistributions | None, limits: ScoringLimits | None, *, stops: bool) -> RowGate | None:
        """Return the gate of a model; None, with a warning, if there is nothing to compare rows with.

        Raises
        ------
        ModelNotReadableError
            If there is nothing to compare rows with, and the gate is to stop them.
        """
        if fitted is not None:
            return cls(fitted, limits or ScoringLimits(), stops)
        if stops:
            raise ModelNotReadableError(f"{NO_DISTRIBUTIONS}: new rows cannot be compared with it.", hint="fit again.")
        logger.warning("%s: new rows are not compared with it.", NO_DISTRIBUTIONS)
        return None

    def check(self, scored: ScoredRows, n_rows: int, n_missing: Int64s, named: set[str]) -> None:
        """Warn of columns that differ, but for those that are `named` already.

        Raises
        ------
        GateStoppedError
            If the gate stops. It names all of them.
        """
        changes = compare_columns(self.fitted, scored.distributions(self.fitted, n_rows, n_missing), self.limits)
        found = [finding for change in changes for finding in change.findings]
        if self.stops and found:
            raise GateStoppedError(
                "The gate stopped the assignment, and nothing was written: rows are not like those of the fit.",
                [finding.words for finding in found],
                hint="mend the columns, fit again, or set wider limits in a gate file.",
            )
        told = [finding.words for finding in found if finding.column not in named]
        if told:
            more = f" {len(told) - SHOWN_FINDINGS} more differ." if len(told) > SHOWN_FINDINGS else ""
            message = f"The rows are not like those of the fit. {' '.join(told[:SHOWN_FINDINGS])}{more}"
            warnings.warn(message, DriftedRowsWarning, stacklevel=4)

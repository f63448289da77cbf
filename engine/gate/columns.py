"""Compare the columns of two tables by their distributions.

    TableDistributions of an earlier and of tonight's table, limits  ->  ColumnChange for every column, with findings

A finding is larger than its limit and more than chance: sizes of samples and the number of checks are counted in.
Numbers are compared in about a dozen bins of the earlier table; a value that many rows have is a bin of its own. Dates
move by themselves: a shift by up to `date_days` that explains the difference is no finding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.config import ColumnLimits, GateConfig, ScoringLimits
from engine.features.distributions import MIN_SHARE, ColumnDistribution, TableDistributions
from engine.gate.divergence import Divergence, compare_share, compare_shares
from engine.gate.findings import CHANCE, Check, Finding
from engine.utils.array_types import Float64s
from engine.utils.formatting import format_percent, printable_text

BIN_SHARE = 0.08  # of the earlier values: a bin has about as many, so that there are a dozen
TAIL_SHARE = 0.02  # of a bin in the upper tenth, where amounts in another unit arrive
UPPER_TAIL = 0.9
LEAST_BIN = 0.002  # of a bin below a value that BIN_SHARE of the rows have
CHECKS_PER_COLUMN = 5
EXPECTED_OUTSIDE = 0.01  # of the values: those beyond the quantiles of 0.5 % and 99.5 %

_FORMS = {"number": "numbers", "date": "dates", "category": "categories", "labels": "lists of labels"}
_NO_DIVERGENCE = Divergence(0.0, 0.0, 0.0, 0.0, 0)


@dataclass(frozen=True)
class ColumnChange:
    """How a column differs from the earlier table.

    Attributes
    ----------
    column : str
    psi, js : float
        Population stability index, and Jensen-Shannon distance to base 2.
    missing : tuple of float
        The share of rows without a value, before and now.
    new_categories : float
        The share of rows whose category or label was rare or unknown.
    outside : float
        The share of numbers beyond nearly all earlier ones.
    days_later : int
        Days that dates are later, and that were taken off before the comparison.
    findings : tuple of Finding
    """

    column: str
    psi: float
    js: float
    missing: tuple[float, float]
    new_categories: float = 0.0
    outside: float = 0.0
    days_later: int = 0
    findings: tuple[Finding, ...] = ()


def compare_columns(
    before: TableDistributions, now: TableDistributions, limits: ScoringLimits, n_other_checks: int = 0
) -> list[ColumnChange]:
    """Compare the columns of the earlier table, in its order, with those of the same name.

    Parameters
    ----------
    before, now : TableDistributions
    limits : ScoringLimits or GateConfig
    n_other_checks : int
        Checks of other things among which the probability of a false finding is shared, too.
    """
    tonight = {column.column: column for column in now.columns}
    checked = [column for column in before.columns if column.column not in limits.ignore]
    n_labels = sum(len(old.names) for old in checked if old.form == "labels")
    chance = CHANCE / max(CHECKS_PER_COLUMN * len(checked) + n_labels + n_other_checks, 1)
    date_days = limits.date_days if isinstance(limits, GateConfig) else None
    changes = []
    for old in checked:
        new = tonight.get(old.column)
        if new is None or new.form != old.form:
            changes.append(_other_role(old, new))
        else:
            changes.append(_Pair(old, new, limits.of(old.column), chance).compare(date_days))
    return changes


def _other_role(old: ColumnDistribution, new: ColumnDistribution | None) -> ColumnChange:
    """Return the change of a column that is left out now, or that is of another form."""
    words = "is left out" if new is None else f"is read as {_FORMS[new.form]}, before as {_FORMS[old.form]}"
    now = 1.0 if new is None else new.missing_share
    finding = Finding("role", 1.0, 0.0, f"Column {printable_text(old.column)!r} {words}.", old.column)
    return ColumnChange(old.column, 0.0, 0.0, (old.missing_share, now), findings=(finding,))


@dataclass(frozen=True)
class _Pair:
    """A column of two tables, its limits, and the probability of a false finding that one check may have."""

    old: ColumnDistribution
    new: ColumnDistribution
    limits: ColumnLimits
    chance: float

    def compare(self, date_days: int | None) -> ColumnChange:
        """Compare the column. Without `date_days`, nothing is said about when dates are: rows are of other people."""
        old, new = self.old, self.new
        divergence, days, outside, new_share, known = _NO_DIVERGENCE, 0, 0.0, 0.0, 0.0
        if old.form in ("category", "labels"):
            divergence = (_compare_categories if old.form == "category" else _compare_labels)(old, new)
            new_share, known = _new_share(old, new)
        elif len(old.edges) and len(new.edges) and not (old.form == "date" and date_days is None):
            divergence, days = _compare_values(old, new, (date_days or 0) if old.form == "date" else 0)
            outside = _outside(old, new)
        change = ColumnChange(
            old.column, divergence.psi, divergence.js, (old.missing_share, new.missing_share), new_share, outside, days
        )
        new_categories = self._new_categories(new_share, known)
        checks = self._missing(), new_categories, self._outside(outside), self._divergence(divergence)
        return replace(change, findings=tuple(finding for finding in checks if finding is not None))

    def _missing(self) -> Finding | None:
        before, now, limit = self.old.missing_share, self.new.missing_share, self.limits.missing
        if limit is None or abs(now - before) <= limit or self._may_be_chance(before, now, rows=True):
            return None
        words = "has no value in any row" if now == 1.0 else f"lacks a value in {format_percent(now)} of the rows"
        return self._finding("missing", now - before, limit, f"{words}, before in {format_percent(before)}")

    def _new_categories(self, share: float, known: float) -> Finding | None:
        limit = self.limits.new_categories
        if limit is None or share <= limit or share <= known or self._may_be_chance(known, share):
            return None
        what = "labels" if self.old.form == "labels" else "categories"
        words = f"has {what} that were rare or unknown in {format_percent(share)} of the rows with a value"
        return self._finding("new_categories", share, limit, words)

    def _outside(self, share: float) -> Finding | None:
        limit = self.limits.outside
        if limit is None or share <= limit or self._may_be_chance(EXPECTED_OUTSIDE, share):
            return None
        words = f"has {format_percent(share)} of its values beyond nearly all earlier ones"
        return self._finding("outside", share, limit, words + _direction(self.old, self.new))

    def _divergence(self, found: Divergence) -> Finding | None:
        psi, js = self.limits.psi, self.limits.js
        if not found.exceeds(psi, js) or found.chance >= self.chance:
            return None
        words = f"is distributed in another way: PSI {found.psi:.3f}, Jensen-Shannon distance {found.js:.3f}"
        words += _direction(self.old, self.new)
        if psi is not None and found.exceeds(psi, None):
            return self._finding("psi", found.psi, psi, words)
        return self._finding("js", found.js, js or 0.0, words)

    def _may_be_chance(self, before: float, now: float, *, rows: bool = False) -> bool:
        """Return whether two samples of one population may have these shares, of all rows or of the values."""
        sizes = (self.old.n_rows, self.new.n_rows) if rows else (self.old.n_values, self.new.n_values)
        return compare_share(before, now, *sizes).chance >= self.chance

    def _finding(self, check: Check, value: float, limit: float, words: str) -> Finding:
        return Finding(check, value, limit, f"Column {printable_text(self.old.column)!r} {words}.", self.old.column)


def _direction(old: ColumnDistribution, new: ColumnDistribution) -> str:
    """Return in words whether numbers are larger or smaller than before."""
    if old.form != "number":
        return ""
    above = 1.0 - float(new.share_upto(np.array([_median(old)]))[0])
    before = 1.0 - float(old.share_upto(np.array([_median(old)]))[0])
    if abs(above - before) < 0.01:
        return ""
    return f"; its values are {'larger' if above > before else 'smaller'}"


def _median(column: ColumnDistribution) -> float:
    return float(column.edges[min(int(np.searchsorted(column.upto, 0.5)), len(column.edges) - 1)])


def _compare_values(old: ColumnDistribution, new: ColumnDistribution, most_days: int) -> tuple[Divergence, int]:
    """Compare numbers or dates; return the divergence, and the days that dates are later, at which it is least."""
    bounds, strictly_below, before = _bins(old)
    best, best_days = _NO_DIVERGENCE, 0
    for days in range(most_days + 1):
        upto = np.maximum.accumulate(new.share_upto(bounds + days, strictly_below=strictly_below))
        now = np.diff(upto, prepend=0.0, append=1.0)
        divergence = compare_shares(before, now, old.n_values, new.n_values)
        if days == 0 or divergence.psi < best.psi:
            best, best_days = divergence, days
    return best, best_days


def _bins(column: ColumnDistribution) -> tuple[Float64s, NDArray[np.bool_], Float64s]:
    """Return the bounds of bins, whether each bound is below its value or above it, and the shares of the bins."""
    upto = np.stack([column.below, column.upto], axis=1).ravel()
    heaps = column.upto - column.below >= BIN_SHARE
    chosen, last = [], 0.0
    for k, share in enumerate(upto.tolist()):
        is_above, heap = k % 2 == 1, heaps[k // 2]
        wide_enough = share - last >= (TAIL_SHARE if share > UPPER_TAIL else BIN_SHARE)
        # Beyond the last edges, a distribution is not known, but for a value that many rows have.
        known = heap or not 1.0 - TAIL_SHARE < share < 1.0
        if (wide_enough and known) or (heap and not is_above and share - last >= LEAST_BIN):
            chosen.append(k)
            last = share
    where = np.array(chosen, np.int64)
    shares = np.diff(upto[where], prepend=0.0, append=1.0)
    return column.edges[where // 2], where % 2 == 0, np.maximum(shares, 0.0)


def _outside(old: ColumnDistribution, new: ColumnDistribution) -> float:
    """Return the share of values beyond the earlier quantiles of 0.5 % and 99.5 %; dates may be later."""
    ends = old.edges[[0, -1]]
    below, upto = new.share_upto(ends, strictly_below=np.array([True, False])).tolist()
    return float(below) if old.form == "date" else float(below + 1.0 - upto)


def _compare_categories(old: ColumnDistribution, new: ColumnDistribution) -> Divergence:
    """Compare the same categories on both sides; those that neither table has often are one."""
    shares = _Shares(old, new)
    p = shares.fit(old, shares.before, shares.now)
    q = shares.fit(new, shares.now, shares.before)
    p, q = (np.append(part, max(1.0 - part.sum(), 0.0)) for part in (p, q))
    return compare_shares(p, q, old.n_values, new.n_values)


def _compare_labels(old: ColumnDistribution, new: ColumnDistribution) -> Divergence:
    """Return the divergence of the label whose share has changed most."""
    shares = _Shares(old, new)
    before, now = shares.least(old, shares.before, shares.now), shares.least(new, shares.now, shares.before)
    found = [
        compare_share(min(p, 1.0), min(q, 1.0), old.n_values, new.n_values)
        for p, q in zip(before.tolist(), now.tolist(), strict=True)
    ]
    return max(found, key=lambda divergence: divergence.psi, default=_NO_DIVERGENCE)


class _Shares:
    """The shares of the names that either table has often, NaN where one keeps no share because it is rare there.

    A rare name is taken to have the share of the other table, as far as it can: so a table of a few rows, in which all
    names are rare, is not taken for one without them.
    """

    def __init__(self, old: ColumnDistribution, new: ColumnDistribution) -> None:
        before, now = _named(old), _named(new)
        names = [name for name in before | now if max(before.get(name, 0.0), now.get(name, 0.0)) >= 2 * MIN_SHARE]
        self.before, self.now = (np.array([part.get(name, np.nan) for name in names]) for part in (before, now))

    @staticmethod
    def least(column: ColumnDistribution, own: Float64s, other: Float64s) -> Float64s:
        """Return the shares of a column, and for its rare names those of the other, up to what a rare name can have."""
        shares: Float64s = np.where(np.isnan(own), np.minimum(other, column.rare_share), own)
        return shares

    def fit(self, column: ColumnDistribution, own: Float64s, other: Float64s) -> Float64s:
        """Return the same of categories, whose rare ones share the values that the kept ones leave."""
        shares, rare = self.least(column, own, other), np.isnan(own)
        total = float(shares[rare].sum())
        shares[rare] *= min(column.rest / total, 1.0) if total else 1.0
        return shares


def _new_share(old: ColumnDistribution, new: ColumnDistribution) -> tuple[float, float]:
    """Return the share of the values that are frequent now and were not kept of the earlier table, now and before.

    Before, it is the largest one that they can have had.
    """
    known = set(old.names)
    shares = [share for name, share in _named(new).items() if name not in known and share >= 2 * MIN_SHARE]
    if new.form == "labels":
        return max(shares, default=0.0), old.rare_share
    return min(sum(shares), 1.0), min(len(shares) * old.rare_share, old.rest)


def _named(column: ColumnDistribution) -> dict[str, float]:
    return dict(zip(column.names, column.shares.tolist(), strict=True))

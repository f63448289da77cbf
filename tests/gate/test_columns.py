"""Each kind of check of columns: what is a finding, and what is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.config import GateConfig, ScoringLimits
from engine.features.distributions import TableDistributions
from engine.features.fit import fit_encoder, reuse_encoder
from engine.gate.columns import ColumnChange, compare_columns
from engine.tables import open_table

N = 20_000
pytestmark = pytest.mark.filterwarnings("ignore::engine.features.drift.DriftWarning")  # which these tables are made for
Draw = Callable[[np.random.Generator, int], Any]
NUMBERS: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(50.0, 10.0, n),
    "heavy tail": lambda rng, n: rng.pareto(1.2, n),
    "no mean": lambda rng, n: rng.standard_cauchy(n),
    "mostly zero": lambda rng, n: np.where(rng.random(n) < 0.9, 0.0, rng.lognormal(3.0, 1.0, n)),
    "counts": lambda rng, n: rng.poisson(3.0, n).astype(float),
    "answers 1 to 5": lambda rng, n: rng.choice(5, n, p=[0.05, 0.1, 0.2, 0.5, 0.15]) + 1.0,
    "days of a month": lambda rng, n: np.where(
        rng.random(n) < 0.7, 0.0, np.where(rng.random(n) < 0.6, rng.choice([5, 10, 15, 30], n), rng.integers(1, 31, n))
    ),
    "rounded amounts": lambda rng, n: np.round(rng.lognormal(10.0, 0.7, n), -3),
}


def tables(before: dict[str, Any], now: dict[str, Any], **roles: Any) -> tuple[TableDistributions, TableDistributions]:
    """Return the distributions of a table that an encoder was fitted on, and of another one read by that encoder."""
    fitted = fit_encoder(open_table(pa.table(before)), column_roles=roles)
    reused = reuse_encoder(open_table(pa.table(now)), fitted.encoder, fitted.roles, fitted.weights)
    return fitted.distributions, reused.distributions


def changes(before: dict[str, Any], now: dict[str, Any], limits: ScoringLimits | None = None) -> list[ColumnChange]:
    return compare_columns(*tables(before, now), limits or GateConfig())


def checks(changes: list[ColumnChange]) -> list[tuple[str | None, str]]:
    return [(finding.column, finding.check) for change in changes for finding in change.findings]


def columns(n: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {name: draw(rng, n) for name, draw in NUMBERS.items()}


@pytest.mark.parametrize("n", [60, 500, N])
def test_another_sample_of_the_same_people_is_no_finding(n: int) -> None:
    for seed in range(5):
        assert checks(changes(columns(n, seed), columns(n, 100 + seed))) == []


@pytest.mark.parametrize("column", NUMBERS)
def test_a_shift_of_a_fifth_of_a_standard_deviation_is_found_and_the_column_named(column: str) -> None:
    before, now = columns(N, 0), columns(N, 1)
    now[column] = now[column] + 0.2 * before[column].std()
    assert {name for name, _ in checks(changes(before, now))} == {column}


def test_flags_whose_share_changes_are_found_frequent_or_rare() -> None:
    def flags(seed: int, shift: float) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        shares = {"half": 0.5, "some": 0.05, "few": 0.01, "most": 0.96}
        moved = {name: p + shift * np.sqrt(p * (1 - p)) for name, p in shares.items()}
        return {name: rng.random(N) < p for name, p in moved.items()}

    assert checks(changes(flags(0, 0.0), flags(1, 0.0))) == []
    assert {name for name, _ in checks(changes(flags(0, 0.0), flags(1, 0.2)))} == {"half", "some", "few", "most"}


def test_missing_values_are_found_when_their_share_changes() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=N)

    def with_missing(share: float) -> dict[str, Any]:
        return {"a": values, "b": pa.array(values, mask=rng.random(N) < share)}

    assert checks(changes(with_missing(0.1), with_missing(0.11))) == []
    assert checks(changes(with_missing(0.1), with_missing(0.2))) == [("b", "missing")]
    (finding,) = changes(with_missing(0.1), with_missing(1.0))[1].findings
    assert finding.words == "Column 'b' has no value in any row, before in 10 %."


def test_categories_are_found_when_they_are_new_renamed_or_shared_in_another_way() -> None:
    rng = np.random.default_rng(0)

    def plans(names: list[str], p: list[float]) -> dict[str, Any]:
        return {"plan": rng.choice(names, N, p=p), "a": rng.normal(size=N)}

    before = plans(["Y", "N"], [0.7, 0.3])
    assert checks(changes(before, plans(["Y", "N"], [0.705, 0.295]))) == []
    renamed = changes(before, plans(["yes", "no"], [0.7, 0.3]))[0]
    assert renamed.new_categories == 1.0
    assert ("plan", "new_categories") in checks([renamed])
    assert ("plan", "new_categories") in checks(changes(before, plans(["Y", "N", "?"], [0.6, 0.3, 0.1])))
    assert checks(changes(before, plans(["Y", "N"], [0.6, 0.4]))) == [("plan", "psi")]
    rare = [f"c{i}" for i in range(150)]  # near the share from which categories are kept
    many = [plans(rare, [1 / 150] * 150) for _ in range(2)]
    assert checks(changes(*many)) == []


def test_labels_are_found_when_one_of_them_changes_or_is_new() -> None:
    rng = np.random.default_rng(0)

    def lists(shares: dict[str, float]) -> dict[str, Any]:
        has = {name: rng.random(5000) < p for name, p in shares.items()}
        return {"likes": [[name for name in has if has[name][i]] for i in range(5000)], "a": rng.normal(size=5000)}

    before = {"tea": 0.6, "coffee": 0.5, "milk": 0.1}
    assert checks(changes(lists(before), lists(before))) == []
    assert checks(changes(lists(before), lists(before | {"milk": 0.2}))) == [("likes", "psi")]
    assert ("likes", "new_categories") in checks(changes(lists(before), lists(before | {"cocoa": 0.2})))


def members(n: int, seed: int) -> pa.Table:
    """Return members with columns of every kind."""
    rng = np.random.default_rng(seed)
    likes = {"tea": 0.6, "coffee": 0.4, "milk": 0.3, "cocoa": 0.02}
    has = {name: rng.random(n) < p for name, p in likes.items()}
    return pa.table(
        {
            "spend": rng.lognormal(3.0, 1.0, n),
            "visits": rng.poisson(2.0, n).astype(float),
            "active": rng.random(n) < 0.4,
            "plan": rng.choice(["free", "basic", "plus", "pro"], n),
            "city": rng.choice([f"city {i}" for i in range(60)], n),
            "likes": [[name for name in has if has[name][i]] for i in range(n)],
        }
    )


def night(fitted: Any, table: pa.Table) -> TableDistributions:
    return reuse_encoder(open_table(table), fitted.encoder, fitted.roles, fitted.weights).distributions


def test_a_small_night_of_the_same_people_is_no_finding_and_one_of_others_is() -> None:
    table, rng = members(3000, 0), np.random.default_rng(1)
    fitted = fit_encoder(open_table(table))
    for n in (*range(5, 61, 5), 49, 80, 100):
        for few in (table.slice(0, n), table.take(rng.permutation(3000)[:n])):
            small = night(fitted, few)
            assert checks(compare_columns(fitted.distributions, small, GateConfig())) == [], n
            assert checks(compare_columns(small, fitted.distributions, GateConfig())) == [], n
    others = members(200, 2)
    for name, values in {"plan": ["other"] * 200, "likes": [["cider"]] * 200, "active": [True] * 200}.items():
        broken = others.set_column(others.column_names.index(name), name, pa.array(values))
        found = checks(compare_columns(fitted.distributions, night(fitted, broken), GateConfig()))
        assert {column for column, _ in found} == {name}
    gone = others.set_column(3, "plan", pa.array(["basic"] * 200))
    assert checks(compare_columns(fitted.distributions, night(fitted, gone), GateConfig())) == [("plan", "psi")]


def test_dates_may_move_on_with_the_calendar_but_not_further() -> None:
    rng = np.random.default_rng(0)
    ages, births = rng.exponential(400.0, N).astype(int), rng.integers(-5000, 5000, N)

    def signed_up(today: int) -> dict[str, Any]:
        return {
            "signed_up": pa.array(today - rng.permutation(ages), pa.int32()).cast(pa.date32()),
            "born": pa.array(rng.permutation(births), pa.int32()).cast(pa.date32()),
        }

    before = signed_up(19_000)
    for days in (0, 1, 7, 31):
        found = changes(before, signed_up(19_000 + days))
        assert checks(found) == []
        assert abs(found[0].days_later - days) <= 3
        assert found[1].days_later <= 31
    assert checks(changes(before, signed_up(19_000 + 120))) == [("signed_up", "psi")]
    assert {name for name, _ in checks(changes(before, signed_up(19_000 - 200)))} == {"signed_up"}


def test_amounts_in_another_unit_are_beyond_the_earlier_ones() -> None:
    rng = np.random.default_rng(0)
    amounts = np.where(rng.random(N) < 0.8, 0.0, rng.lognormal(3.0, 1.0, N))
    found = changes({"paid": amounts}, {"paid": amounts * 1000.0}, ScoringLimits())
    assert checks(found) == [("paid", "outside")]
    assert "its values are larger" in found[0].findings[0].words or found[0].outside > 0.05


def test_scored_rows_of_other_people_are_no_finding_but_broken_ones_are() -> None:
    before, other = columns(N, 0), columns(N, 1)
    other["normal"] = other["normal"] + 5.0
    assert checks(changes(before, other, ScoringLimits())) == []
    other["normal"] = other["normal"] * 1000.0
    assert {name for name, _ in checks(changes(before, other, ScoringLimits()))} == {"normal"}


def test_limits_of_single_columns_and_ignored_columns_are_followed() -> None:
    before, now = columns(N, 0), columns(N, 1)
    for name in ("normal", "counts"):
        now[name] = now[name] + 0.3 * before[name].std()
    wide = GateConfig.model_validate({"columns": {"normal": {"psi": 0.5, "js": None}}, "ignore": ["counts"]})
    assert checks(changes(before, now, wide)) == []
    assert checks(changes(before, now, GateConfig(psi=None, js=None, outside=None))) == []


def test_values_between_two_edges_are_placed_well_enough() -> None:
    """Each table has edges of its own, so that some of one fall between two of the other."""
    for name in NUMBERS:
        psi = [changes({name: columns(N, seed)[name]}, {name: columns(N, 50 + seed)[name]})[0].psi for seed in range(8)]
        assert max(psi) < 0.006, name  # of 0.015, the limit


def test_tables_with_quantiles_of_their_own_are_compared_as_well() -> None:
    before, now = columns(N, 0), columns(N, 1)
    fitted = [fit_encoder(open_table(pa.table(table))).distributions for table in (before, now)]
    assert checks(compare_columns(*fitted, GateConfig())) == []
    now["normal"] = now["normal"] + 0.2 * before["normal"].std()
    fitted[1] = fit_encoder(open_table(pa.table(now))).distributions
    assert {name for name, _ in checks(compare_columns(*fitted, GateConfig()))} == {"normal"}


def test_a_column_that_is_left_out_or_read_in_another_way_is_a_finding() -> None:
    before = {"a": np.arange(500.0), "b": np.arange(500.0), "c": np.arange(500.0)}
    now = before | {"a": [f"text {i % 4}" for i in range(500)], "b": [None] * 500}
    fitted = [fit_encoder(open_table(pa.table(table))).distributions for table in (before, now)]
    found = [finding.words for change in compare_columns(*fitted, GateConfig()) for finding in change.findings]
    assert found == ["Column 'a' is read as categories, before as numbers.", "Column 'b' is left out."]


def test_distributions_that_cannot_be_are_refused() -> None:
    encoder = fit_encoder(open_table(pa.table(columns(300, 0) | {"plan": ["a", "b", "c"] * 100})))
    known = encoder.distributions
    known.check(encoder.encoder.plan)
    first, category = known.columns[0], known.columns[-1]
    for broken in (
        known.columns[1:],
        (replace(first, form="date"), *known.columns[1:]),
        (replace(first, n_rows=-1), *known.columns[1:]),
        (replace(first, n_values="3"), *known.columns[1:]),
        (replace(first, edges=first.edges[::-1]), *known.columns[1:]),
        (replace(first, upto=first.below * np.nan), *known.columns[1:]),
        (*known.columns[:-1], replace(category, names=(1, 2, 3))),
    ):
        with pytest.raises((ValueError, TypeError)):
            TableDistributions(broken).check(encoder.encoder.plan)


def test_distributions_are_what_was_stored() -> None:
    table = columns(300, 0) | {"plan": ["a", "b", "c"] * 100}
    known = fit_encoder(open_table(pa.table(table))).distributions
    again = TableDistributions.from_parts(known.facts(), known.arrays())
    assert again.facts() == known.facts()
    assert all(np.array_equal(again.arrays()[name], array) for name, array in known.arrays().items())
    arrays = known.arrays() | {"distributions.shares": np.zeros(1)}
    with pytest.raises(ValueError, match="lengths"):
        TableDistributions.from_parts(known.facts(), arrays)


def test_rare_categories_and_the_largest_numbers_are_not_kept() -> None:
    names = ["common"] * 990 + [f"rare {i}" for i in range(10)]
    numbers = [0.0] * 996 + [124.0, 125.0, 126.0, 127.0]
    known = fit_encoder(open_table(pa.table({"c": names, "x": numbers, "y": np.arange(1000.0)}))).distributions
    category, number, _ = known.columns
    assert category.names == ("common",)
    assert number.edges.tolist() == [0.0]

"""Distributions of the columns of a table: what a model stores comes back, and what no table has is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.features.distributions import ColumnDistribution, TableDistributions
from engine.features.encoding_plan import EncodingPlan
from engine.features.fit import fit_encoder
from engine.tables import open_table

N = 600
RNG = np.random.default_rng(11)


@pytest.fixture(scope="module")
def fitted() -> tuple[EncodingPlan, TableDistributions]:
    table = pa.table({"age": RNG.integers(18, 90, N), "plan": RNG.choice(["a", "b", "c"], N)})
    features = fit_encoder(open_table(table))
    return features.encoder.plan, features.distributions


def test_facts_and_arrays_come_back(fitted: tuple[EncodingPlan, TableDistributions]) -> None:
    plan, distributions = fitted
    again = TableDistributions.from_parts(distributions.facts(), distributions.arrays())
    again.check(plan)
    assert again.facts() == distributions.facts()
    values = np.array([-1.0, 18.0, 40.5, 89.0, 1e9])
    age = again.columns[0]
    assert (age.share_upto(values) == distributions.columns[0].share_upto(values)).all()
    assert age.share_upto(values)[[0, 3, 4]].tolist() == [0.0, 1.0, 1.0]
    assert ColumnDistribution("x", "number", 0, 0, 0).share_upto(values).tolist() == [0.0] * 5
    assert ColumnDistribution("x", "number", 0, 0, 0).missing_share == 0.0


CHANGES: list[tuple[int, dict[str, Any], str]] = [
    (0, {"column": "other"}, "of other columns"),
    (0, {"form": "date"}, "of other columns"),
    (0, {"n_rows": -1}, "count no rows"),
    (0, {"n_missing": N + 1}, "count no rows"),
    (0, {"n_values": 2.5}, "count no rows"),
    (1, {"n_rows": 2**53 + 1}, "count no rows"),
    (1, {"names": ("a", "b", 3)}, "no text"),
    (1, {"shares": np.array([0.5, np.nan, 0.1])}, "holds no numbers"),
    (0, {"edges": np.array([[1.0]])}, "holds no numbers"),
    (0, {"edges": np.array([1.0], np.float32)}, "holds no numbers"),
    (0, {"edges": np.array([2.0, 2.0]), "below": np.zeros(2), "upto": np.ones(2)}, "does not ascend"),
    (0, {"edges": np.array([1.0, 2.0]), "below": np.ones(2), "upto": np.zeros(2)}, "does not ascend"),
    (0, {"edges": np.array([1.0, 2.0]), "below": np.zeros(2), "upto": np.ones(2)}, "does not ascend"),
]


@pytest.mark.parametrize(("position", "changes", "words"), CHANGES)
def test_what_no_table_has_is_refused(
    position: int, changes: dict[str, Any], words: str, fitted: tuple[EncodingPlan, TableDistributions]
) -> None:
    plan, distributions = fitted
    columns = list(distributions.columns)
    columns[position] = replace(columns[position], **changes)
    with pytest.raises((ValueError, TypeError), match=words):
        TableDistributions(tuple(columns)).check(plan)


@pytest.mark.parametrize("name", ["edges", "below", "upto", "shares"])
def test_arrays_of_other_lengths_are_refused(name: str, fitted: tuple[EncodingPlan, TableDistributions]) -> None:
    arrays = fitted[1].arrays()
    arrays[f"distributions.{name}"] = np.append(arrays[f"distributions.{name}"], 1.0)
    with pytest.raises(ValueError, match="have other lengths"):
        TableDistributions.from_parts(fitted[1].facts(), arrays)

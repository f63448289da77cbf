"""Predicates: what a missing value counts as in each of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from engine.explain.binning.predicates import YES, Predicate, missing_bin
from engine.features.encoding_plan import CategoryPlan
from engine.features.fit import fit_encoder
from engine.tables import open_table


def test_a_missing_category_counts_as_the_most_frequent_one_unless_it_has_an_indicator() -> None:
    table = pa.table({"plan": [*"a" * 50, *"b" * 30, *"c" * 19, None], "age": np.arange(100) % 37})
    plan = fit_encoder(open_table(table)).encoder.plan.columns[0]
    assert isinstance(plan, CategoryPlan)
    for has_indicator, expected in ((False, [1, 0, 0]), (True, [0, 0, 0])):
        known = plan.model_copy(update={"indicator": has_indicator})
        predicates = [Predicate("plan", "plan", "category", value) for value in ("a", "b", "c")]
        assert [missing_bin(predicate, known, 0.0) for predicate in predicates] == expected
        assert missing_bin(Predicate("plan", "plan", "missing"), known, 0.0) == YES

"""Bins of a whole table: each predicate says of every row what its words say, by plain comparisons."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from engine.explain.binning.binner import Binner
from engine.explain.binning.predicates import Predicate
from engine.features.fit import fit_encoder
from engine.tables import open_table
from engine.utils.formatting import Vocabulary

N = 1000
RANDOM = np.random.default_rng(3)
CITIES = [*["Rome"] * 500, *["Oslo"] * 300, *["Bern"] * 170, *(f"village {n}" for n in range(30))]
DAYS = [dt.date(2015, 1, 1) + dt.timedelta(days=int(day)) for day in RANDOM.integers(0, 3000, N)]
ROWS: dict[str, list[Any]] = {
    "age": RANDOM.integers(18, 90, N).tolist(),
    "city": [CITIES[n] if n % 50 else None for n in RANDOM.permutation(N)],
    "joined": DAYS,
    "flag": (RANDOM.random(N) < 0.3).tolist(),
    "likes": [["jazz", "rock", "folk"][: 1 + n % 3] for n in range(N)],
}


def holds(predicate: Predicate, value: Any, categories: set[str]) -> int:
    """Return the bin of a value that is there, by the definition of the predicate."""
    if predicate.kind == "category":
        return int(value == predicate.value)
    if predicate.kind == "rare category":
        return int(value not in categories)
    if predicate.kind == "label":
        return int(predicate.value in value)
    number = (value - dt.date(1970, 1, 1)).days if isinstance(value, dt.date) else float(value)
    return sum(number >= threshold for threshold in predicate.thresholds)


def test_every_predicate_has_the_bin_of_its_definition_in_every_row() -> None:
    table = pa.table(ROWS)
    encoder = fit_encoder(open_table(table), column_roles={"likes": "multilabel"}).encoder
    words = Vocabulary.from_schema(table.schema, encoder.columns, {}, {})
    block = encoder.read_block(table)
    binner = Binner.from_sample(encoder.plan, block, words)
    bins = binner.unpack(binner.pack(block))
    kinds = Counter(predicate.kind for predicate in binner.predicates)
    assert {"number", "date", "truth", "category", "rare category", "label"} <= set(kinds)
    assert kinds["category"] == 3
    categories = {predicate.value or "" for predicate in binner.predicates if predicate.kind == "category"}
    for predicate, found in zip(binner.predicates, bins, strict=True):
        if predicate.kind == "missing":
            continue
        values = ROWS[predicate.column]
        there = [row for row, value in enumerate(values) if value is not None]
        expected = [holds(predicate, values[row], categories) for row in there]
        assert found[there].tolist() == expected, predicate
        assert len(set(expected)) > 1, predicate

"""Columns whose values an encoder of another table does not know are warned of; others are not."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.features.drift import DriftWarning
from engine.features.fit import fit_encoder, reuse_encoder
from engine.tables import open_table

N = 5000


def answers(seed: int, words: str, n_answered: int) -> pa.Table:
    """Return a table with a question that some people answered."""
    rng = np.random.default_rng(seed)
    given: Any = rng.choice([f"{words} {i}" for i in range(8)], N).astype(object)
    given[rng.permutation(N)[n_answered:]] = None
    return pa.table({"answer": given, "x": rng.normal(size=N)})


def read_again(before: pa.Table, now: pa.Table) -> None:
    fitted = fit_encoder(open_table(before))
    reuse_encoder(open_table(now), fitted.encoder, fitted.roles, fitted.weights)


@pytest.mark.parametrize("n_answered", [100, 500, N])
def test_a_question_that_few_people_answer_has_not_drifted_by_that(n_answered: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DriftWarning)
        read_again(answers(0, "a", n_answered), answers(1, "a", n_answered))
    if n_answered > 100:
        with pytest.warns(DriftWarning, match="'answer'"):
            read_again(answers(0, "a", n_answered), answers(1, "b", n_answered))


def people(shift: float, *, empty: bool = False) -> pa.Table:
    """Return people with a date, an amount with a heavy tail, a constant, and a text; `shift` moves the first two."""
    rng = np.random.default_rng(3)
    spend = np.exp(rng.normal(4 + shift, 1, N))
    joined = np.datetime64("2024-01-01") - rng.integers(0, 900, N) + int(2000 * shift)
    words = pa.nulls(N, pa.string()) if empty else pa.array(rng.choice(["a", "b"], N))
    same = np.where(rng.random(N) < 0.5, np.nan, 1.0 + shift)
    return pa.table({"spend": spend, "joined": joined.astype("datetime64[D]"), "word": words, "same": same})


def test_amounts_and_dates_beyond_the_limits_and_empty_columns_are_named() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DriftWarning)
        read_again(people(0.0), people(0.0))
    with pytest.warns(DriftWarning, match=r"'spend' \(.*beyond its limits.*'joined' \(100 % beyond.*'word' \(no value"):
        read_again(people(0.0), people(3.0, empty=True))
    with pytest.warns(DriftWarning) as found:
        read_again(people(0.0), people(3.0))
    assert "'same'" not in str(found[0].message)  # one number and missing values have no scale

"""Numbers and dates of new rows that lie far beyond all of the fit are told: they count as its smallest or largest."""

from __future__ import annotations

import datetime as dt
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import engine
from engine.model.model import Model
from engine.model.unseen import UnseenValuesWarning

N = 400
RNG = np.random.default_rng(2)
GROUP = np.arange(N) % 2
ROWS: dict[str, Any] = {
    "age": 30 + 20 * GROUP + RNG.normal(size=N),
    "spend": RNG.lognormal(3 + GROUP, 1.0),
    "member": (RNG.random(N) < 0.5).astype(float),
    "joined": [dt.date(2020, 1, 1) + dt.timedelta(days=int(day)) for day in RNG.integers(0, 900, N)],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    out = tmp_path_factory.mktemp("far") / "run"
    return engine.fit(pa.table(ROWS), n_clusters=2, out=out, skip=["map", "report", "explain"], threads=1).model


def told(model: Model, rows: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.assign(rows)
    return [str(w.message) for w in caught if w.category is UnseenValuesWarning and "far beyond" in str(w.message)]


def changed(name: str, value: Any, every: int = 10) -> pa.Table:
    return pa.table(ROWS | {name: [value if row % every == 0 else v for row, v in enumerate(ROWS[name])]})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("age", 1234.0),
        ("spend", -1.5),
        ("spend", 1e9),
        ("member", 9.0),
        ("joined", dt.date(1901, 2, 3)),
    ],
)
def test_values_far_beyond_the_fit_are_told_with_their_number(model: Model, name: str, value: Any) -> None:
    (message,) = told(model, changed(name, value))
    assert f"column '{name}' in 40 of 400 rows" in message
    assert "--missing" in message
    assert str(value) not in message


@pytest.mark.parametrize(
    ("name", "value", "every"),
    [
        ("age", 60.0, 10),
        ("age", None, 10),
        ("age", 1234.0, 200),
        ("spend", 0.0, 2),
        ("joined", dt.date(2029, 1, 1), 2),
        ("joined", dt.date(2017, 1, 1), 2),
    ],
)
def test_values_near_the_fit_and_a_few_outliers_are_not(model: Model, name: str, value: Any, every: int) -> None:
    assert told(model, changed(name, value, every)) == []


@pytest.mark.parametrize("every", [10, 399])
@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("age", -999.0, "-999"),
        ("age", 999.0, "999"),
        ("age", -1.0, "-1"),
        ("spend", -9.0, "-9"),
        ("joined", dt.date(1900, 1, 1), "1900-01-01"),
        ("joined", dt.date(9999, 12, 31), "9999-12-31"),
    ],
)
def test_marks_that_the_fit_never_had_are_told_by_value_however_few(
    model: Model, name: str, value: Any, text: str, every: int
) -> None:
    n = len(range(0, N, every))
    (message,) = told(model, changed(name, value, every))
    assert f"column '{name}' in {n} of 400 rows ({text} in {n})" in message


def test_marks_are_told_beside_other_far_values_and_by_the_list_that_has_them(model: Model) -> None:
    both = pa.concat_tables([changed("age", -999.0), changed("age", 1234.0)])
    (message,) = told(model, both)
    assert "column 'age' in 80 of 800 rows (-999 in 40)" in message
    parts = [
        changed("age", -999.0, 399).to_pylist(),
        pa.table(ROWS).to_pylist(),
        changed("spend", -1.0, 399).to_pylist(),
    ]
    messages: list[tuple[int, str]] = []
    answers = model.assign_each(parts, warned=lambda k, text: messages.append((k, text)))
    assert list(map(len, answers)) == [N, N, N]
    assert [
        (k, "'age' in 2 of 400 rows (-999 in 2)" in m, "'spend' in 2 of 400 rows (-1 in 2)" in m) for k, m in messages
    ] == [
        (0, True, False),
        (2, False, True),
    ]


def test_rows_that_are_dicts_are_told_alike(model: Model) -> None:
    records = changed("age", -999.0).to_pylist()
    (message,) = told(model, records)
    assert "column 'age' in 40 of 400 rows" in message


def test_files_are_told_once(model: Model, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(pa.concat_tables([changed("age", -999.0)] * 100), tmp_path / "rows.parquet")
    (message,) = told(model, tmp_path / "rows.parquet")
    assert "column 'age' in 4,000 of 40,000 rows" in message

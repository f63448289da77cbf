"""A text of several answers without any letter is a missing value in every format, in SQL and in a pipeline."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

import engine
from engine.features.columnar_block import read_labels
from engine.features.fit import fit_encoder
from engine.model.export import check_sql
from engine.tables import Table, open_table

N = 90
TOOLS = ["R", "SQL", "Go", "C"]
ANSWERS = ["; ".join(t for bit, t in enumerate(TOOLS) if (1 + n * 7 % 15) >> bit & 1) for n in range(N)]
ROWS = pa.table(
    {
        "who": range(N),
        "age": np.random.default_rng(0).normal(40 + 20 * (np.arange(N) % 3 == 0), 2),
        "tools": ["" if n % 3 == 0 else answer for n, answer in enumerate(ANSWERS)],
    }
)


def csv(folder: Path, rows: pa.Table) -> Table:
    pacsv.write_csv(rows, folder / "a.csv")
    return open_table(folder / "a.csv", id="who")


def parquet(folder: Path, rows: pa.Table) -> Table:
    pq.write_table(rows, folder / "a.parquet")
    return open_table(folder / "a.parquet", id="who")


def pandas(folder: Path, rows: pa.Table) -> Table:
    return open_table(rows.to_pandas(), id="who")


@pytest.mark.parametrize("blank", ["", " ", "\t\u00a0", None])
@pytest.mark.parametrize("source", [csv, parquet, pandas])
def test_every_format_takes_blank_texts_for_missing(
    source: Callable[[Path, pa.Table], Table], blank: str | None, tmp_path: Path
) -> None:
    tools = [blank if text == "" else text for text in ROWS["tools"].to_pylist()]
    features = fit_encoder(source(tmp_path, ROWS.set_column(2, "tools", pa.array(tools))), id="who")
    (plan,) = [plan for plan in features.encoder.plan.columns if plan.column == "tools"]
    assert plan.form == "labels"
    assert plan.indicator
    assert features.statistics.columns["tools"].n_missing == N // 3


def test_an_empty_list_in_brackets_is_no_missing_value() -> None:
    texts = pa.array(["['a', 'b']", "[]", "set()", " ", "", None])
    for column in (texts, texts.dictionary_encode()):
        assert read_labels(column, '["]').missing.tolist() == [False, False, False, True, True, True]
    lists = pa.array([["a"], [], [""], None])
    assert read_labels(lists, None).missing.tolist() == [False, False, False, True]


@pytest.mark.parametrize("separator", [";", " ", "[,]", "\n"])
def test_texts_of_separators_alone_have_no_labels_and_are_not_missing(separator: str) -> None:
    if separator == ";":
        assert read_labels(pa.array([";", " ; ", "a;"]), separator).missing.tolist() == [False] * 3
    assert read_labels(pa.array(["a", "  ", ""]), separator).missing.tolist() == [False, True, True]


def test_rules_sql_and_exports_count_them_as_the_fit_does(tmp_path: Path) -> None:
    pq.write_table(ROWS, tmp_path / "a.parquet")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = engine.fit(tmp_path / "a.parquet", id="who", n_clusters=2, out=tmp_path / "run", skip=["map", "report"],
                         config={"explain": {"min_people": 5}}, threads=1)  # fmt: skip
    expected = run.assignments["cluster"].to_pylist()
    with duckdb.connect() as connection:
        connection.register("profiles", ROWS)
        rules = connection.extract_statements((run.path / "rules.sql").read_text())[0].query
        matched = connection.sql(rules).fetchnumpy()
        for cluster in run.rules["clusters"]:
            assert matched[f"cluster_{cluster['cluster']}"].sum() == cluster["matched"]
    for dialect in ("duckdb", "sqlite"):
        assert check_sql(run.model, ROWS, dialect).differing == 0
    pipeline = run.model.to_sklearn()
    assert pipeline.predict(ROWS.to_pandas().drop(columns="who")).tolist() == expected
    as_null = pd.DataFrame(ROWS.to_pandas()).replace({"tools": {"": None}})
    assert run.model.assign(as_null)["cluster"].to_pylist() == expected

"""Encoding random tables: blocks as the whole, the same after a round trip through JSON, and always finite."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from engine.errors import RoomsError
from engine.features.encoder import FeatureEncoder
from engine.features.encoding_plan import EncodingPlan
from engine.features.fit import fit_encoder
from engine.tables import open_table
from tests.random_tables import few_examples, tables


def fitted(table: pa.Table) -> FeatureEncoder:
    """Return the encoder of a table; the example does not count if the table is refused."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return fit_encoder(open_table(table)).encoder
    except RoomsError:
        assume(False)
        raise


def read(table: pa.Table) -> pa.Table:
    """Return the rows as the engine reads them."""
    return pa.concat_tables(block.rows for block in open_table(table).blocks())


@pytest.mark.filterwarnings("ignore")
@few_examples(25)
@given(tables(min_rows=2), st.integers(1, 25))
def test_rows_are_encoded_alike_in_any_block_and_after_a_round_trip(table: pa.Table, n_block: int) -> None:
    encoder, rows = fitted(table), read(table)
    X = encoder.encode(rows)
    assert X.shape == (table.num_rows, encoder.n_features) == (len(X), len(encoder.features))
    assert np.isfinite(X).all()
    in_blocks = [encoder.encode(rows.slice(start, n_block)) for start in range(0, len(rows), n_block)]
    assert np.concatenate(in_blocks).tobytes() == X.tobytes()
    stored = json.dumps(encoder.plan.model_dump(mode="json"), allow_nan=False)
    again = FeatureEncoder(EncodingPlan.model_validate(json.loads(stored)))
    assert again.plan == encoder.plan
    assert again.encode(rows).tobytes() == X.tobytes()
    decoded = encoder.decode(X)
    assert decoded.column_names == [feature.name for feature in encoder.features]
    assert decoded.num_rows == len(X)


@pytest.mark.filterwarnings("ignore")
@few_examples(15)
@given(tables(min_rows=2), tables(min_rows=1, max_rows=9))
def test_new_rows_are_encoded_as_finite_numbers_or_refused(table: pa.Table, others: pa.Table) -> None:
    encoder = fitted(table)
    new = pa.table({name: others.column(number % others.num_columns) for number, name in enumerate(table.column_names)})
    rows = read(new)
    try:
        encoder.check_schema(rows.schema)
        X = encoder.encode(rows)
    except RoomsError as refusal:
        exit_code = refusal.exit_code
    else:
        exit_code = 0 if np.isfinite(X).all() else 70
    event(f"exit code {exit_code}")
    assert exit_code in (0, 3)

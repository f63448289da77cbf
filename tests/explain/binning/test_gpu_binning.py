"""Bins packed on a device are the bytes of the CPU's, in the pass that encodes the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.execution.array_storage import IN_MEMORY
from engine.explain.binning.binned_table import BinnedTable
from engine.features.fit import FittedFeatures, fit_encoder
from engine.tables import open_table
from engine.utils.formatting import Vocabulary
from tests.features.test_gpu_encoder import MODULES, ROLES, everything
from tests.gpu.chunks import NumpyDevice

N_ROWS = 600


def rows_with_many_labels() -> pa.Table:
    """Return a column of every kind, and lists of more labels than one byte has bits."""
    random = np.random.default_rng(4)
    lists = [list(random.choice([f"tag {i}" for i in range(20)], random.integers(0, 6))) for _ in range(N_ROWS)]
    lists[::7] = [None] * len(lists[::7])
    return everything(N_ROWS).append_column("tags", pa.array(lists, pa.list_(pa.string())))


@pytest.fixture(scope="module")
def features() -> FittedFeatures:
    missing = {"visits": ["0"], "plan": ["Gift"], "born": []}
    return fit_encoder(
        open_table(rows_with_many_labels()), column_roles=ROLES | {"tags": "multilabel"}, missing=missing
    )


def binned_table(features: FittedFeatures, rows: pa.Table) -> BinnedTable:
    words = Vocabulary.from_schema(rows.schema, features.encoder.columns, {}, {})
    return BinnedTable(features.encoder, rows.slice(0, 500), words, len(rows), IN_MEMORY)


@pytest.mark.parametrize("xp", MODULES)
@pytest.mark.parametrize("lengths", [(600,), (64, 1, 200)])
def test_bins_of_every_kind_of_column_are_those_of_the_cpu(
    features: FittedFeatures, xp: Any, lengths: tuple[int, ...]
) -> None:
    rows = rows_with_many_labels()
    expected = binned_table(features, rows).complete(open_table(rows))
    table = binned_table(features, rows)
    assert {len(column.predicates) > 8 for column in table.binner.columns} == {False, True}
    device = NumpyDevice(xp, lengths=lengths, unreadable={"genres": "of a test", "age": "of a test"})
    encoded = device.reader(open_table(rows)).encoded_table(features.encoder)
    assert not isinstance(encoded, str)
    moments = encoded.compute_moments(device, lambda _: None, [table])
    assert moments.n_rows == N_ROWS
    np.testing.assert_array_equal(table.packed, expected)
    assert table.complete(None) is table.packed  # type: ignore[arg-type]  # which is not read again

"""Numbers come back to the bit from as few bytes as hold them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.kernels.cpu.features.compact_numbers import (
    FLOAT32,
    FLOAT64,
    INT8,
    INT16,
    INT32,
    find_narrowest_type,
    from_integers,
    to_integers,
)

NAN = float("nan")
DTYPES = {INT8: np.int8, INT16: np.int16, INT32: np.int32}


def store_and_restore(values: np.ndarray) -> np.ndarray:
    kind, scale = find_narrowest_type(values)
    if kind not in DTYPES:
        return values.astype(np.float32 if kind == FLOAT32 else np.float64).astype(np.float64)
    integers, out = np.empty(len(values), DTYPES[kind]), np.empty(len(values))
    to_integers(values, scale, np.iinfo(integers.dtype).min, integers)
    from_integers(integers, scale, np.iinfo(integers.dtype).min, out)
    return out


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], (INT8, 1.0)),
        ([NAN, 1.0, -127.0, 127.0], (INT8, 1.0)),
        ([-128.0], (INT16, 1.0)),  # the least integer marks a missing value
        ([128.0], (INT16, 1.0)),
        ([32767.0, -32767.0], (INT16, 1.0)),
        ([-32768.0], (FLOAT32, 1.0)),
        ([0.1, 12.7], (INT8, 10.0)),
        ([9.99, 0.5], (INT16, 100.0)),
        ([0.123, 32.767], (INT16, 1000.0)),
        ([0.0001, 1999.99], (INT32, 10000.0)),
        ([0.1, 0.12, 0.5, 100000.0], (INT32, 100.0)),
        ([0.0001, 300000.0], (FLOAT64, 1.0)),
        ([0.125, 1.0 / 1024], (FLOAT32, 1.0)),
        ([float(1 << 24), 0.5], (FLOAT32, 1.0)),
        ([float((1 << 24) + 1)], (INT32, 1.0)),
        ([float(1 << 53) - 1], (FLOAT64, 1.0)),
        ([1.0 / 3.0, 0.1], (FLOAT64, 1.0)),
        ([-0.0, 1.0], (FLOAT32, 1.0)),
        ([-0.0, 0.1], (FLOAT64, 1.0)),
        ([1e300], (FLOAT64, 1.0)),
        ([3e38], (FLOAT64, 1.0)),
    ],
)
def test_the_narrowest_type_is_found(values: list[float], expected: tuple[int, float]) -> None:
    assert find_narrowest_type(np.array(values)) == expected
    assert store_and_restore(np.array(values)).tobytes() == np.array(values).tobytes()


numbers = st.one_of(
    st.integers(-40000, 40000).map(float),
    st.integers(-(10**6), 10**6).map(lambda k: k / 1000.0),
    st.floats(allow_infinity=False, allow_nan=False, width=32),
    st.floats(allow_infinity=False, allow_nan=False),
    st.just(NAN),
    st.just(-0.0),
)


@given(st.lists(numbers, max_size=20))
def test_every_value_comes_back_to_the_bit(values: list[float]) -> None:
    given_values = np.array(values, np.float64)
    assert store_and_restore(given_values).tobytes() == given_values.tobytes()

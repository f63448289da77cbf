"""Numbers come back to the bit from as few bytes as hold them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.kernels.cpu.features.compact_numbers import (
    BYTE,
    DOUBLE,
    LONG,
    SHORT,
    SINGLE,
    from_integers,
    to_integers,
    width,
)

NAN = float("nan")
DTYPES = {BYTE: np.int8, SHORT: np.int16, LONG: np.int32}


def there_and_back(values: np.ndarray) -> np.ndarray:
    found, scale = width(values)
    if found not in DTYPES:
        return values.astype(np.float32 if found == SINGLE else np.float64).astype(np.float64)
    integers, out = np.empty(len(values), DTYPES[found]), np.empty(len(values))
    to_integers(values, scale, np.iinfo(integers.dtype).min, integers)
    from_integers(integers, scale, np.iinfo(integers.dtype).min, out)
    return out


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], (BYTE, 1.0)),
        ([NAN, 1.0, -127.0, 127.0], (BYTE, 1.0)),
        ([-128.0], (SHORT, 1.0)),  # the least integer is the mark of a gap
        ([128.0], (SHORT, 1.0)),
        ([32767.0, -32767.0], (SHORT, 1.0)),
        ([-32768.0], (SINGLE, 1.0)),
        ([0.1, 12.7], (BYTE, 10.0)),
        ([9.99, 0.5], (SHORT, 100.0)),
        ([0.123, 32.767], (SHORT, 1000.0)),
        ([0.0001, 1999.99], (LONG, 10000.0)),
        ([0.1, 0.12, 0.5, 100000.0], (LONG, 100.0)),
        ([0.0001, 300000.0], (DOUBLE, 1.0)),
        ([0.125, 1.0 / 1024], (SINGLE, 1.0)),
        ([float(1 << 24), 0.5], (SINGLE, 1.0)),
        ([float((1 << 24) + 1)], (LONG, 1.0)),
        ([float(1 << 53) - 1], (DOUBLE, 1.0)),
        ([1.0 / 3.0, 0.1], (DOUBLE, 1.0)),
        ([-0.0, 1.0], (SINGLE, 1.0)),
        ([-0.0, 0.1], (DOUBLE, 1.0)),
        ([1e300], (DOUBLE, 1.0)),
        ([3e38], (DOUBLE, 1.0)),
    ],
)
def test_the_least_width_is_found(values: list[float], expected: tuple[int, float]) -> None:
    assert width(np.array(values)) == expected
    assert there_and_back(np.array(values)).tobytes() == np.array(values).tobytes()


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
    assert there_and_back(given_values).tobytes() == given_values.tobytes()

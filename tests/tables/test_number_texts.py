"""Numbers written as texts: the format that a column's texts show, and the numbers they are parsed to."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.tables.number_texts import NumberFormat, find_number_format, normalize_texts, parse_texts


def parsed(texts: list[str], decimal: str = "") -> list[float | None]:
    normalized = normalize_texts(pa.array(texts)).to_pylist()
    form = find_number_format(normalized, decimal)
    assert form is not None
    return [None if np.isnan(value) else float(value) for value in parse_texts(pa.array(texts), form).values]


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["1.299.000", "999", "1.299"], [1299000, 999, 1299]),  # two marks in one number
        (["1.299,50", "999,00"], [1299.5, 999]),
        (["1,299.50", "999.00"], [1299.5, 999]),
        (["1.290", "999", "2.345"], [1290, 999, 2345]),  # no fixed number of decimals, and none drops its zeros
        (["1,299", "999"], [1299, 999]),
        (["1.25", "1.299", "3"], [1.25, 1.299, 3]),
        (["0.125", "1.299", "3"], [0.125, 1.299, 3]),
        (["1.299", "1.300", "2.500"], [1.299, 1.3, 2.5]),  # three decimals each
        (["1.5", "1299.250", "1.299"], [1.5, 1299.25, 1.299]),
        (["1'299", "12'345.6", "999"], [1299, 12345.6, 999]),
        (["1\u2019299", "999"], [1299, 999]),
        (["1 299", "12 345,6", "7"], [1299, 12345.6, 7]),
        (["1\u00a0299", "1\u202f299\u202f000", "7"], [1299, 1299000, 7]),
        (["12,34,567", "1,299"], [1234567, 1299]),
        (["$1,234.50", "$999.00", "-$5.25", "($7.50)"], [1234.5, 999, -5.25, -7.5]),
        (["1.234,50 \u20ac", "12,00 \u20ac"], [1234.5, 12]),
        (["12 USD", "7 USD"], [12, 7]),
        (["45%", "7 %", "0.5%"], [45, 7, 0.5]),
        (["5 h", "12 h"], [5, 12]),
        (["1e5", "2.5E-3", "\u22123"], [1e5, 0.0025, -3]),
        (["1.299E+03", "9.000E-01", "1.000E+05"], [1299, 0.9, 1e5]),  # three decimals each
        (["1,299E+03", "9,000E-01", "7"], [1299, 0.9, 7]),
        (["12.5k", "3M", "800", "-2K", "1.2bn"], [12500, 3e6, 800, -2000, 1.2e9]),
        (["$1,200k", "$3M", "$0.5B"], [1.2e6, 3e6, 5e8]),
        (["12,5k \u20ac", "800 \u20ac", "3 k\u20ac"], [12500, 800, 3000]),
        (["12k", "7.5k"], [12000, 7500]),
        (["$12B", "$7.5B"], [12e9, 7.5e9]),
        (["12m \u20ac", "7.5m \u20ac"], [12e6, 7.5e6]),
        (["3 million", "2.5 thousand"], [3e6, 2500]),
        (["5m", "12 m", "7m"], [5, 12, 7]),  # metres, minutes or millions: all alike
        (["5m", "12k", "7m"], [5e6, 12e3, 7e6]),
        (["900 g", "1.2 kg", "250mg"], [900, 1200, 0.25]),
        (["512 MB", "1.5 GB", "2 KiB"], [5.12e8, 1.5e9, 2048]),
        (["170 cm", "1.8 m", "1 km"], [1.7, 1.8, 1000]),
        (["90 min", "2 h", "1 day"], [5400, 7200, 86400]),
        (["12.50-", "3.00", "1,000.00-"], [-12.5, 3, -1000]),
        (['="12.5"', '="7"'], [12.5, 7]),
        (["1:23:45", "0:00:07.5", "10:00:00"], [5025, 7.5, 36000]),
        (["1:02:03", "12:34", "0:05"], [3723, 754, 5]),
        (["12:34", "0:05", "75:00"], [754, 5, 4500]),
        (["1 days 02:03:04", "0 days 00:00:01.5", "-1 days 00:00:00"], [93784, 1.5, -86400]),
        (["1.02:03:04", "2.00:00:00"], [93784, 172800]),
        (["5 h 30 min", "45 min", "2h", "1 day, 3 hours"], [19800, 2700, 7200, 97200]),
        (["1h30m", "20m 5s", "90s"], [5400, 1205, 90]),
        (["PT1H30M", "P1DT2H", "PT45S", "P2W", "-PT5M"], [5400, 93600, 45, 1209600, -300]),
    ],
)
def test_every_way_of_writing_numbers_is_read(texts: list[str], numbers: list[float]) -> None:
    assert parsed(texts) == numbers


SCALED = {  # texts of smaller and of larger units, the larger ones with three decimals, and their numbers
    "mass": (["936 g", "57 g"], ["{} kg"], [936, 57, 1275, 2340, 12500]),
    "length": (["936 m", "57 m"], ["{} km"], [936, 57, 1275, 2340, 12500]),
    "bytes": (["936 MB", "57 MB"], ["{} GB"], [936e6, 57e6, 1275e6, 2340e6, 12500e6]),
    "time": (["936 ms", "57 ms"], ["{} s"], [0.936, 0.057, 1.275, 2.34, 12.5]),
    "magnitudes": (["936", "57"], ["{}k"], [936, 57, 1275, 2340, 12500]),
    "letters": (["936", "57"], ["{}k", "{}K"], [936, 57, 1275, 2340, 12500]),
    "money": (["$936", "$57"], ["${}k"], [936, 57, 1275, 2340, 12500]),
    "negative": (["-936 g", "57 g"], ["{} kg"], [-936, 57, 1275, 2340, 12500]),
}


@pytest.mark.parametrize("kind", SCALED)
@pytest.mark.parametrize("point", ".,")
@pytest.mark.parametrize("other_columns", ["", ".", ","])
def test_three_decimals_of_a_larger_unit_are_no_thousands(kind: str, point: str, other_columns: str) -> None:
    small, large, numbers = SCALED[kind]
    decimals = ["1.275", "2.340", "12.500"]
    texts = small + [large[i % len(large)].format(n.replace(".", point)) for i, n in enumerate(decimals)]
    many = [large[0].format(f"{i}{point}{i:03}") for i in range(101, 131)]
    assert parsed(texts, other_columns) == pytest.approx(numbers, rel=1e-15)
    assert parsed([*texts, *many], other_columns)[: len(numbers)] == pytest.approx(numbers, rel=1e-15)


def test_whole_numbers_of_a_scale_do_not_make_its_points_thousands() -> None:
    assert parsed(["1.234k", "512k", "2.500k", "936"]) == [1234, 512000, 2500, 936]
    assert parsed(["512", "3.834k", "1.234M"]) == [512, 3834, 1234000]
    assert parsed(["512", "3,834k", "1,234M"]) == [512, 3834, 1234000]
    assert parsed(["1.275k", "2.340k"]) == [1275, 2340]


def test_numbers_of_a_scale_have_thousands_where_something_shows_it() -> None:
    assert parsed(["1.234.567 g", "936 g", "1.200 kg"]) == [1234567, 936, 1.2e6]  # two marks in one number
    assert parsed(["1.234,5 kg", "936 g", "1.200 kg"]) == [1234500, 936, 1.2e6]
    assert parsed(["1,200k", "3M", "500k"]) == [1.2e6, 3e6, 5e5]  # in the middle of a scale, and not throughout
    assert parsed(["1.200 g", "936 g", "3 kg"], ",") == [1200, 936, 3000]


def test_the_decimal_mark_of_other_columns_decides_where_a_column_does_not() -> None:
    assert parsed(["1.299", "2.301"], ",") == [1299, 2301]
    assert parsed(["1,299", "2,301"], ",") == [1.299, 2.301]
    assert parsed(["1,299", "2,301"], ".") == [1299, 2301]


@pytest.mark.parametrize(
    "texts",
    [
        ["red", "blue"],
        ["1,5", "1.5"],
        ["1,3", "2", "1,2,5"],
        ["Zone 1", "Zone 2"],
        ["1.2.3", "1.10"],
        [],
        ["-", "n/a"],
        ["3:2", "1:0"],
        ["12:34:56:78", "1:2:3:4"],
        ["P1Y", "P5M"],
        ["P", "PT"],
        ["12:75", "3:99"],
    ],
)
def test_other_texts_have_no_format(texts: list[str]) -> None:
    assert find_number_format(texts) is None


def test_marks_of_missing_numbers_and_other_texts_are_counted() -> None:
    column = pa.array(["1", "?", " ", None, "N/A", "?", "lots", r"\N", "02134"]).dictionary_encode()
    result = parse_texts(column, NumberFormat(whole=True))
    assert result.marks == {"?": 2, "": 1, "N/A": 1, r"\N": 1}
    assert result.n_unread == 2  # a word and a code with a leading zero
    assert np.isnan(result.values[1:]).all()
    assert result.values[0] == 1.0


def test_after_whole_numbers_alone_1_299_could_mean_either_and_is_not_read() -> None:
    form = find_number_format(["5", "17"])
    assert form is not None
    result = parse_texts(pa.array(["1.299", "12.5", "0.125"]), form)
    assert np.isnan(result.values[0])
    assert result.values[1:].tolist() == [12.5, 0.125]
    assert result.n_unread == 1


@given(st.lists(st.integers(-(10**12), 10**12), min_size=3), st.sampled_from([("'", "."), (" ", ","), (",", ".")]))
def test_what_was_written_with_thousands_marks_is_read_back(numbers: list[int], marks: tuple[str, str]) -> None:
    grouping, decimal = marks
    texts = [f"{n:,}".replace(",", grouping) + f"{decimal}5" for n in numbers]
    assert parsed(texts) == [float(f"{n}.5") for n in numbers]

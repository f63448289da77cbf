"""Numbers that name things are left out or taken as categories, and amounts of similar names are not."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from engine.errors import RetypedColumnError
from engine.features.column_roles import ColumnRole
from engine.features.encoding_plan import CategoryPlan
from engine.features.fit import ColumnsDroppedWarning, fit_encoder
from engine.features.key_columns import are_answers, category_reason, is_key, is_nominal, row_label_reason
from engine.tables import open_table

N = 400


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def infer(source: object, **options: object) -> dict[str, ColumnRole]:
    return {role.column: role for role in fit_encoder(open_table(source), **options).roles}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    ["id", "store_id", "campaign_key", "StoreId", "storeID", "phone", "zip", "ZIP", "zip_code", "Postal Code", "plz",
     "id_region", "account.number", "country_code", "member_no", "phone_number", "studyid", "townid", "pid", "idcode",
     "FIPS", "areacode", "ean", "SKU", "ssn", "cust_no", "msisdn", "naics2", "home_iban", "Kontonummer",
     "kundennr"],
)  # fmt: skip
def test_names_of_keys(name: str) -> None:
    for kind in (pa.int64(), pa.float64()):
        assert category_reason(pa.field(name, kind)) == "named as a key or code"
    assert category_reason(pa.field(name, pa.bool_())) is None
    assert category_reason(pa.field(name, pa.string())) is None


@pytest.mark.parametrize(
    "name",
    ["paid", "Paid", "COVID", "monkey", "amount", "n_phone", "has_key", "num_id", "mobile", "keys", "idle_hours",
     "user_num", "order_count", "grid", "zipped", "bid", "thyroid", "liquid", "firms", "kids", "subjects", "school",
     "lot", "basic"],
)  # fmt: skip
def test_names_of_amounts(name: str) -> None:
    assert category_reason(pa.field(name, pa.int64())) is None
    assert row_label_reason(pa.field(name, pa.int64())) is None


@pytest.mark.parametrize("name", ["Subject", "firm", "Hospital", "rater", "agent"])
def test_whole_numbers_of_a_unit_of_observation_name_it(name: str) -> None:
    assert category_reason(pa.field(name, pa.int64())) == "named as a key or code"
    assert category_reason(pa.field(name, pa.float64())) is None


@pytest.mark.parametrize(
    ("name", "nominal"),
    [
        ("city", True),
        ("home_city", True),
        ("tariff", True),
        ("mpg_city", False),
        ("avgPriceRegion", False),
        ("price_per_category", False),
    ],
)
def test_amounts_of_an_attribute_are_amounts(name: str, nominal: bool) -> None:
    assert is_nominal(name) is nominal


def test_a_key_that_is_text_is_no_number(rng: np.random.Generator, tmp_path: Path) -> None:
    zips = [str(z) for z in rng.integers(10_000, 99_999, 40)]
    rows = [f"{rng.choice(zips)},{age}" for age in rng.integers(18, 80, N)]
    (tmp_path / "a.csv").write_text("\n".join(["zip_code,age", *rows, "98101-2345,30", ""]))
    assert infer(tmp_path / "a.csv")["zip_code"].role == "categorical"
    with pytest.raises(RetypedColumnError, match="'zip_code' was set to numeric, but 1 of its"):
        infer(tmp_path / "a.csv", column_roles={"zip_code": "numeric"})


@pytest.mark.parametrize("first", [0, 1])
def test_small_tables_have_labels_of_rows_too(first: int) -> None:
    n = 12
    table = pa.table(
        {
            "time": list(range(first, first + n)),
            "city": [f"city {number}" for number in range(n)],
            "year": list(range(1990, 1990 + n)),
            "score": [5, 3, 8, 1, 12, 7, 2, 9, 4, 11, 6, 10],
        }
    )
    with pytest.warns(ColumnsDroppedWarning, match="'time'.*'city'"):
        roles = infer(table)
    assert [roles[name].role for name in table.column_names] == ["ignore", "ignore", "numeric", "numeric"]
    small = infer(table.slice(0, 9))
    assert [small[name].role for name in table.column_names] == ["numeric", "categorical", "numeric", "numeric"]


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "Unnamed: 0.1", "...1", "rownames", "row_names", "row.names"])
def test_names_of_row_labels(name: str) -> None:
    assert row_label_reason(pa.field(name, pa.int64())) is not None
    assert row_label_reason(pa.field(name, pa.string())) is None  # such as the row names of R: the values decide


def test_row_names_that_are_dates_or_fractions_are_labels_and_other_columns_are_not() -> None:
    for kind in (pa.date32(), pa.timestamp("us"), pa.float64()):
        assert row_label_reason(pa.field("rownames", kind)) is not None
        assert row_label_reason(pa.field("joined", kind)) is None


def test_row_labels_of_pandas_are_left_out_of_files_with_their_name(rng: np.random.Generator, tmp_path: Path) -> None:
    frame = pd.DataFrame({"age": rng.integers(18, 80, 2 * N)}).sample(N, random_state=0)
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_csv(tmp_path / "a.csv")
    pd.read_csv(tmp_path / "a.csv").to_csv(tmp_path / "b.csv", index=False)
    for file, name in (("a.parquet", "__index_level_0__"), ("a.csv", ""), ("b.csv", "Unnamed: 0")):
        with pytest.warns(ColumnsDroppedWarning, match=rf"'{name}' \(row labels"):
            roles = infer(tmp_path / file)
        assert {role.column: role.role for role in roles.values()} == {"age": "numeric", name: "ignore"}
    roles = infer(tmp_path / "a.parquet", column_roles={"__index_level_0__": "numeric"})
    assert roles["__index_level_0__"].role == "numeric"


def test_keys_with_repetitions_are_categories_and_are_told(
    rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    table = pa.table(
        {
            "age": rng.integers(18, 80, N),
            "store_id": rng.choice(rng.integers(100_000, 999_999, 40), N),
            "zip": pa.array(rng.choice([2134.0, 90210.0, np.nan], N), from_pandas=True),
            "phone": rng.integers(4915100000000, 4915199999999, N),
        }
    )
    with (
        caplog.at_level(logging.INFO, logger="engine"),
        pytest.warns(ColumnsDroppedWarning, match=r"'phone' \(named as a key or code: 400 different values\)"),
    ):
        roles = infer(table)
    assert [role.role for role in roles.values()] == ["numeric", "categorical", "categorical", "ignore"]
    assert roles["store_id"].reason == "named as a key or code: 40 different values"
    assert "because they name things: 'store_id', 'zip'." in caplog.text
    assert infer(table, column_roles={"store_id": "numeric", "phone": "numeric"})["store_id"].role == "numeric"


def test_a_key_with_a_value_for_every_row_is_left_out_of_small_tables_too() -> None:
    table = pa.table({"customer_id": [7, 3, 9, 4], "age": [20, 30, 40, 50]})
    with pytest.warns(ColumnsDroppedWarning, match="'customer_id'"):
        assert infer(table)["customer_id"].role == "ignore"


def test_dictionaries_of_numbers_are_categories(rng: np.random.Generator, tmp_path: Path) -> None:
    shop = rng.choice([3, 17, 25], N)
    frame = pd.DataFrame({"age": rng.integers(18, 80, N), "shop": pd.Categorical(shop)})
    frame.to_parquet(tmp_path / "a.parquet", index=False)
    arrow = pa.table({"age": frame["age"], "shop": pa.array(shop / 2).dictionary_encode()})
    for source in (frame, tmp_path / "a.parquet", arrow):
        role = infer(source)["shop"]
        assert (role.role, role.reason) == ("categorical", "a dictionary of values: 3 different values")


def test_partitions_of_folders_are_categories_and_keep_leading_zeros(rng: np.random.Generator, tmp_path: Path) -> None:
    for zip, band in (("02134", 1), ("90210", 1), ("10001", 2)):
        folder = tmp_path / f"zip={zip}" / f"band={band}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"age": rng.integers(18, 80, N)}), folder / "part.parquet")
    table = open_table(tmp_path)
    assert [str(kind) for kind in table.schema.types] == ["int64", "string", "int32"]
    zips = pa.concat_tables(block.rows for block in table.blocks())["zip"].unique().to_pylist()
    assert sorted(zips) == ["02134", "10001", "90210"]
    roles = infer(tmp_path)
    assert [roles[name].role for name in ("zip", "band")] == ["categorical", "categorical"]
    assert roles["band"].reason == "a partition of folders: 2 different values"


def test_integers_that_ascend_in_small_steps_number_the_rows(rng: np.random.Generator) -> None:
    numbers = np.cumsum(rng.integers(1, 12, N))
    columns = {"age": rng.integers(18, 80, N), "x": numbers, "income": np.sort(rng.choice(10**6, N, replace=False))}
    with pytest.warns(ColumnsDroppedWarning, match="'x'"):
        roles = infer(pa.table(columns))
    assert [roles[name].role for name in ("x", "income")] == ["ignore", "numeric"]
    assert infer(pa.table(columns | {"x": rng.permutation(numbers)}))["x"].role == "numeric"
    with pytest.warns(ColumnsDroppedWarning, match="'index'"):
        assert infer(pa.table(columns | {"index": rng.permutation(numbers)}))["index"].role == "ignore"


@pytest.mark.parametrize(
    "name",
    ["sex", "marital_status", "MaritalStatus", "MARITAL", "home.state", "Region", "productType", "STATUS_CD"],
)
def test_names_of_attributes_whose_numbers_are_codes(name: str) -> None:
    assert is_nominal(name)


@pytest.mark.parametrize("name", ["age", "n_type", "typed", "state_of_mind_score", "racetime", "children", "rank", ""])
def test_names_of_numbers_that_are_no_codes(name: str) -> None:
    assert not is_nominal(name)


@pytest.mark.parametrize("codes", [[1, 2, 3, 4, 9], [1, 2, 3, 8, 9], [0, 1, 9], [1, 2, 7, 9], [1, 2, 3, 4, 5, 6, 9]])
def test_answers_with_a_number_for_others_are_codes(codes: list[float]) -> None:
    counts = np.full(len(codes), 100)
    assert are_answers(np.array(codes, float), counts)


def test_a_large_count_that_few_have_is_no_code() -> None:
    assert not are_answers(np.array([*range(1, 7), 9], float), np.array([400, 200, 100, 50, 20, 8, 3]))
    assert not are_answers(np.array([0.0, 1.0, 2.0, 8.0]), np.array([46, 2, 1, 1]))  # of 50 rows, one is 2 %


@pytest.mark.parametrize(
    "codes", [[1, 2, 3, 4, 5], [1, 3, 5, 9], [*range(10)], [0, 1, 2, 3, 4, 5, 7], [2, 3, 9], [1, 2, 6], [1, 2, 3, 10]]
)
def test_scales_and_counts_are_no_codes(codes: list[float]) -> None:
    assert not are_answers(np.array(codes, float), np.full(len(codes), 100))


def test_codes_of_answers_are_categories_and_scales_stay_numbers(rng: np.random.Generator, tmp_path: Path) -> None:
    columns = {
        "answer": rng.choice([1, 2, 3, 4, 9], N, p=[0.5, 0.3, 0.1, 0.05, 0.05]),
        "gaps": rng.choice([1.0, 2.0, 3.0, 9.0, np.nan], N),
        "region": rng.integers(1, 12, N),
        "sex": rng.integers(1, 3, N),
        "state": rng.normal(size=N).round(2),
        "likert": rng.integers(1, 6, N),
        "stars": rng.integers(0, 11, N),
        "children": np.minimum(rng.poisson(1.2, N), 9),
        "age": rng.integers(18, 90, N),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    roles = infer(tmp_path / "t.parquet")
    assert {name: role.role for name, role in roles.items()} == {
        "answer": "categorical", "gaps": "categorical", "region": "categorical", "sex": "boolean", "state": "numeric",
        "likert": "numeric", "stars": "numeric", "children": "numeric", "age": "numeric",
    }  # fmt: skip
    assert roles["answer"].reason == "answers by number, and one for others: 5 different values"
    assert infer(tmp_path / "t.parquet", column_roles={"answer": "numeric"})["answer"].role == "numeric"


@pytest.mark.parametrize("name", ["telefon", "ip", "url_hash", "mcc", "merchant_mcc"])
def test_more_names_of_keys(name: str) -> None:
    assert is_key(name)


@pytest.mark.parametrize(
    "name",
    [
        "fnlwgt",
        "sampling_weight",
        "survey_weight",
        "pweight",
        "finalwt",
        "person_weight",
        "perwt",
        "hhwt",
        "PWGTP",
        "pwgtp17",
        "pspwght",
        "anweight",
        "dweight",
        "wtssall",
        "case_weight",
        "wgt_pop",
        "hochrechnungsfaktor",
        "expansion_factor",
    ],
)
def test_weights_of_a_sample_are_no_amounts(name: str) -> None:
    assert row_label_reason(pa.field(name, pa.float64())) == "weights of a sample, by its name"
    assert row_label_reason(pa.field(name, pa.string())) is None


@pytest.mark.parametrize(
    "name", ["weight", "body_weight", "weight_kg", "final", "weighted_score", "birth_weight", "dwt", "weight_final"]
)
def test_other_weights_are_amounts(name: str) -> None:
    assert row_label_reason(pa.field(name, pa.float64())) is None


@pytest.mark.parametrize("kind", [np.int64, np.uint64])
def test_numbers_from_all_over_64_bits_are_hashes(kind: type) -> None:
    info = np.iinfo(kind)
    values = np.random.default_rng(0).integers(info.min, info.max, 200, dtype=kind)
    rows = pa.table({"h": values, "moment": (1_577_836_800 + np.arange(200) * 7919 % 9999) * 10**9,
                     "x": np.random.default_rng(1).normal(size=200)})  # fmt: skip
    with pytest.warns(UserWarning, match="'h' .*as hashes are"):
        features = fit_encoder(open_table(rows))
    assert features.encoder.columns == ["moment", "x"]


VERSIONS = ["1.1", "1.10", "1.9", "2.0"]


@pytest.mark.parametrize("name", ["version", "app_version", "appVersion", "firmware", "os-version-no"])
def test_versions_are_categories_of_their_own_texts_in_every_format(tmp_path: Path, name: str) -> None:
    texts = [VERSIONS[row % 4] for row in range(200)]
    table = pa.table({name: texts, "age": np.random.default_rng(0).normal(40, 9, 200)})
    pacsv.write_csv(table, tmp_path / "a.csv", pacsv.WriteOptions(quoting_style="none"))
    for source in (table, tmp_path / "a.csv"):
        encoder = fit_encoder(open_table(source)).encoder
        (plan,) = (column for column in encoder.plan.columns if column.column == name)
        assert isinstance(plan, CategoryPlan)
        assert sorted(plan.categories) == VERSIONS
    whole = fit_encoder(open_table(pa.table({name: np.arange(200) % 4 + 9, "age": table["age"]})))
    assert {role.column: role.role for role in whole.roles}[name] == "categorical"


@pytest.mark.parametrize("name", ["conversion", "n_versions", "release", "inversion_score"])
def test_names_that_only_sound_like_versions_hold_numbers(tmp_path: Path, name: str) -> None:
    values = np.random.default_rng(1).uniform(1, 9, 200).round(2)
    pacsv.write_csv(pa.table({name: values, "age": np.arange(200) % 60}), tmp_path / "a.csv")
    fitted = fit_encoder(open_table(tmp_path / "a.csv"))
    assert {role.column: role.role for role in fitted.roles}[name] == "numeric"


@pytest.mark.parametrize(
    "name", ["postleitzahl", "PLZ", "codigo_postal", "code_postal", "codice postale", "postnummer"]
)
def test_zip_codes_in_other_languages_are_keys(name: str) -> None:
    assert is_key(name)


@pytest.mark.parametrize("source", ["a data frame", "a file", "a file whose type is not registered"])
def test_periods_of_pandas_are_no_numbers(source: str, tmp_path: Path) -> None:
    months = pd.PeriodIndex([f"2024-{1 + n % 12:02d}" for n in range(60)], freq="M")
    frame = pd.DataFrame({"age": [20 + n * 7 % 30 for n in range(60)], "month": months})
    frame.to_parquet(tmp_path / "a.parquet")
    registered = pq.read_schema(tmp_path / "a.parquet").field("month").type
    if source.endswith("not registered"):
        pa.unregister_extension_type("pandas.period")
    try:
        with pytest.warns(ColumnsDroppedWarning, match="'month' .periods of pandas"):
            roles = fit_encoder(open_table(frame if source == "a data frame" else tmp_path / "a.parquet")).roles
    finally:
        if source.endswith("not registered"):
            pa.register_extension_type(registered)
    assert {role.column: role.role for role in roles} == {"age": "numeric", "month": "ignore"}

"""Bad input: what a table, a model or a disk can be, and what a fit or `rooms assign` makes of it.

Every case writes its input into a folder. With exit code 0 it says what comes out, with any other which message does;
test_catalogue.py runs them all.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.model.files import read_model, write_model
from engine.run import Run

N = 60
HOSTILE = ["<script>alert(1)</script>", "=cmd|' /C calc'!A0", "'; DROP TABLE people; --", "a\nb\x00c", "\u202egnp.exe"]


@dataclass(frozen=True)
class Case:
    """One kind of bad input.

    Attributes
    ----------
    name : str
    make : callable
        Writes the input into a folder, and returns its path.
    code : int
        The exit code of the command.
    message : str
        A regular expression that stderr matches; with exit code 0, of a warning.
    options : sequence of str
        Of `rooms fit` beside the input and --out.
    check : callable, optional
        Looks at the new run, and returns whether it is right.
    """

    name: str
    make: Callable[[Path], Path]
    code: int
    message: str = ""
    options: Sequence[str] = ("-k", "2")
    check: Callable[[Run], bool] = field(default=lambda run: True)
    skip: str = "map,report"


@dataclass(frozen=True)
class ModelCase:
    """One kind of bad model: what is done to the folder of a run, and what `rooms assign` says."""

    name: str
    change: Callable[[Path], object]
    code: int
    message: str = ""


def columns(n: int = N) -> dict[str, Any]:
    """Return two columns of numbers in two groups, and one of categories."""
    random = np.random.default_rng(0)
    group = np.arange(n) % 2
    return {
        "age": 30 + 20 * group + random.normal(size=n),
        "hours": random.normal(size=n),
        "plan": ["a", "b"] * (n // 2),
    }


def parquet(**changes: Any) -> Callable[[Path], Path]:
    """Return what writes the columns as Parquet, some of them replaced or added; None leaves one out."""

    def make(folder: Path) -> Path:
        table = {name: values for name, values in (columns() | changes).items() if values is not None}
        pq.write_table(pa.table(table), folder / "table.parquet")
        return folder / "table.parquet"

    return make


def only(**table: Any) -> Callable[[Path], Path]:
    """Return what writes these columns as Parquet, and no others."""

    def make(folder: Path) -> Path:
        pq.write_table(pa.table(table), folder / "table.parquet")
        return folder / "table.parquet"

    return make


def file(name: str, content: bytes | str) -> Callable[[Path], Path]:
    """Return what writes a file of this content."""

    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return folder / name

    return make


def csv_text(n: int = N, encoding: str = "utf-8", header: str = "id,age,plan", city: str = "x") -> bytes:
    """Return a CSV file of n rows: id, age and a text."""
    rows = [f"{row},{30 + 20 * (row % 2) + row / 100},{city}{row % 3}" for row in range(n)]
    return "\n".join([header, *rows, ""]).encode(encoding)


def parts(*tables: pa.Table, broken: Callable[[bytes], bytes] | None = None) -> Callable[[Path], Path]:
    """Return what writes a folder of Parquet files; `broken` changes the bytes of the last one."""

    def make(folder: Path) -> Path:
        (folder / "parts").mkdir()
        for number, table in enumerate(tables):
            pq.write_table(table, folder / "parts" / f"{number}.parquet")
        if broken is not None:
            path = folder / "parts" / f"{len(tables) - 1}.parquet"
            path.write_bytes(broken(path.read_bytes()))
        return folder / "parts"

    return make


def with_values(values: Sequence[Any], n: int = N, kind: pa.DataType | None = None) -> pa.Array:
    """Return a column that begins with these values, and goes on with numbers that vary."""
    return pa.array([*values, *(float(row % 7) for row in range(n - len(values)))], kind)


def flip(position: float) -> Callable[[bytes], bytes]:
    """Return what flips all bits of the byte at a share of a file."""

    def change(content: bytes) -> bytes:
        at = int(position * (len(content) - 1))
        return content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]

    return change


def has_column(name: str, role: str | None = None, *, dropped: bool = False) -> Callable[[Run], bool]:
    """Return what tells whether a run used a column, with this role."""

    def check(run: Run) -> bool:
        (column,) = [column for column in run.manifest["columns"] if column["column"] == name]
        return bool(column["dropped"] == dropped and role in (None, column["role"]))

    return check


def ids_are(values: Sequence[Any]) -> Callable[[Run], bool]:
    """Return what tells whether a run has exactly these ids."""
    return lambda run: list(run.assignments[run.assignments.column_names[0]].to_pylist()) == list(values)


def clusters_are_the_groups(run: Run) -> bool:
    """Tell whether the two clusters are the two groups of `columns`."""
    clusters = run.assignments["cluster"].to_numpy()
    return len(set(clusters[::2])) == len(set(clusters[1::2])) == 1 and clusters[0] != clusters[1]


def nothing_is_executed(run: Run) -> bool:
    """Tell whether hostile texts are texts: in the report, in SQL that DuckDB runs, and in the CSV file."""
    report = (run.path / "report.html").read_text(encoding="utf-8")
    sql = (run.path / "rules.sql").read_text(encoding="utf-8")
    people = duckdb.sql(f"SELECT * FROM read_parquet('{run.manifest['input']['files'][0]['path']}')")
    connection = duckdb.connect()
    connection.register("profiles", people.to_arrow_table())
    connection.execute(sql)
    cells = [cell for line in (run.path / "elbow.csv").read_text().splitlines() for cell in line.split(",")]
    return "<script>alert(1)" not in report and not any(cell.startswith(("=", "@", "+")) for cell in cells)


HOSTILE_COLUMNS = {name: (np.arange(N) // (1 + i)) % 5 for i, name in enumerate(HOSTILE)}
BIG_IDS = [2**53 + n for n in range(N)]
ZERO_IDS = [f"{n:06d}" for n in range(N)]
WIDE = [f"word {n}" for n in range(10_000)]
BASE = pa.table(columns())

TABLES = [
    Case("NaN in a column", parquet(age=with_values([float("nan")] * 5)), 0, check=has_column("age", "numeric")),
    Case("infinity in a column", parquet(age=with_values([float("inf"), -float("inf")])), 3, "'age'.*infinit"),
    Case("infinity as text in CSV", file("a.csv", "a,b\n1,2\ninf,3\n" + "2,3\n3,1\n" * 9), 3, "'a'"),
    Case("a column of nulls", parquet(empty=pa.nulls(N)), 0, "'?empty", check=has_column("empty", dropped=True)),
    Case("nothing but nulls", only(a=pa.nulls(N), b=pa.nulls(N)), 3, "No column is left"),
    Case("a constant column", parquet(same=[1.5] * N), 0, "'?same", check=has_column("same", dropped=True)),
    Case("nothing but constants", only(a=[1] * N, b=["x"] * N), 3, "No column is left"),
    Case(
        "repeated ids",
        parquet(id=[1, 1, *range(2, N)]),
        3,
        "'id' is the id, but 1 of 60 rows",
        ("-k", "2", "--id", "id"),
    ),
    Case(
        "missing ids",
        parquet(id=[None, *range(1, N)]),
        3,
        "'id' is the id, and it is missing in 1",
        ("-k", "2", "--id", "id"),
    ),
    Case("an id column that is not there", parquet(), 3, "no column 'nobody'", ("-k", "2", "--id", "nobody")),
    Case("ids beyond 2^53", parquet(id=BIG_IDS), 0, options=("-k", "2", "--id", "id"), check=ids_are(BIG_IDS)),
    Case(
        "ids with leading zeros",
        file("a.csv", "id,age\n" + "".join(f"{i},{n % 9}\n" for n, i in enumerate(ZERO_IDS))),
        0,
        options=("-k", "2", "--id", "id"),
        check=ids_are(ZERO_IDS),
    ),
    Case("text in a column of numbers", parquet(age=["thirty", *map(str, range(N - 1))]), 0, "age"),
    Case("0 rows", only(a=pa.array([], pa.float64())), 3, "has no rows"),
    Case("a header and no rows", file("a.csv", "id,age\n"), 3, "has no rows"),
    Case("0 bytes of CSV", file("a.csv", b""), 3, r"a\.csv"),
    Case("0 bytes of Parquet", file("a.parquet", b""), 3, r"a\.parquet cannot be read as parquet"),
    Case("one row", only(a=[1.0], b=[2.0]), 3, ""),
    Case("more clusters than rows", parquet(), 3, "61", ("-k", "61")),
    Case("more clusters than distinct rows", only(a=[1.0, 2.0] * 30, b=[1.0, 3.0] * 30), 3, "distinct", ("-k", "3")),
    Case("as many clusters as distinct rows", only(a=[1.0, 2.0] * 30, b=[1.0, 3.0] * 30), 0, options=("-k", "2")),
    Case("no clusters", parquet(), 2, "-k 0", ("-k", "0")),
    Case("files of other columns", parts(BASE, BASE.drop_columns(["age"])), 3, r"Column 'age' is only in one of"),
    Case("files of other types", parts(BASE, BASE.set_column(0, "age", pa.array(["x"] * N))), 3, "'?age"),
    Case(
        "a file that is cut off",
        parts(BASE, BASE, broken=lambda data: data[: len(data) // 2]),
        3,
        r"1\.parquet cannot be read as parquet",
    ),
    Case("a file whose footer is damaged", parts(BASE, BASE, broken=flip(0.9)), 3, r"parquet"),
    Case("a file whose magic is damaged", parts(BASE, broken=flip(1.0)), 3, r"0\.parquet cannot be read as parquet"),
    Case("CSV named as Parquet", file("a.parquet", csv_text()), 3, r"a\.parquet cannot be read as parquet"),
    Case("Parquet named as CSV", lambda folder: parquet()(folder).rename(folder / "a.csv"), 3, r"a\.csv"),
    Case("a name without an ending", lambda folder: parquet()(folder).rename(folder / "table"), 3, "table"),
    Case("no file", lambda folder: folder / "nowhere.parquet", 3, "nowhere"),
    Case("an empty folder", lambda folder: folder, 3, ""),
    Case("a short row", file("a.csv", csv_text() + b"1,2\n"), 3, "line 62 has 2 columns, but the header has 3"),
    Case("two files joined with their headers", file("a.csv", 2 * csv_text()), 3, "Line 62 of .* is the header again"),
    Case(
        "a row without an id",
        file("a.csv", csv_text() + b",30,x1\n"),
        3,
        r"missing in 1 of the first 61 rows \(see line 62 of",
        options=("-k", "2", "--id", "id"),
    ),
    Case("a long row", file("a.csv", csv_text() + b"1,2,3,4\n"), 3, "line 62 has 4 columns, but the header has 3"),
    Case("NUL bytes", file("a.csv", csv_text().replace(b"x1", b"x\x001")), 0, check=has_column("plan", "categorical")),
    Case(
        "an unclosed quotation mark",
        file("a.csv", csv_text() + b'99,30,"x\n' + csv_text()),
        3,
        r"a\.csv.*quotation marks",
    ),
    Case(
        "decimal points, then decimal commas",
        file("a.csv", "id;x\n" + "".join(f"{n};{n}{',' if n > 40 else '.'}5\n" for n in range(N))),
        3,
        r"Line 43 of .*a\.csv has a number with a decimal comma in column 'x'",
    ),
    Case("SPSS named as Stata", file("a.dta", b"$FL2@(#) SPSS DATA FILE" + bytes(300)), 3, r"a\.dta cannot be read"),
    Case("an empty SPSS file", file("a.sav", b""), 3, r"a\.sav cannot be read as a file of spss"),
    Case("an empty sheet", file("a.xlsx", b""), 3, r"a\.xlsx cannot be read as a spreadsheet"),
    Case("CSV named as Excel", file("a.xlsx", csv_text()), 3, r"a\.xlsx cannot be read as a spreadsheet"),
    Case("UTF-16", file("a.csv", csv_text(encoding="utf-16")), 3, r"a\.csv"),
    Case(
        "Latin-1",
        file("a.csv", csv_text(encoding="latin-1", city="Zürich")),
        3,
        "line 2 is not UTF-8 text in column 'plan'",
    ),
    Case("a byte-order mark", file("a.csv", csv_text(encoding="utf-8-sig")), 0, options=("-k", "2", "--id", "id")),
    Case("10,000 categories", only(age=np.arange(10_000) % 7, word=WIDE), 0, check=has_column("word", dropped=True)),
    Case(
        "categories of which many are rare",
        only(age=np.arange(10_000) % 7, word=[WIDE[n * n % 4999] for n in range(10_000)]),
        0,
    ),
    Case(
        "scales of 1e-9 beside 1e9",
        parquet(hours=columns()["hours"] * 1e-9, age=columns()["age"] * 1e9),
        0,
        check=clusters_are_the_groups,
    ),
    Case(
        "1e30 in float32",
        parquet(age=np.float32(1e30) * columns()["age"].astype(np.float32)),
        0,
        check=clusters_are_the_groups,
    ),
    Case("1e98 in float64", parquet(age=columns()["age"] * 1e98), 0, check=clusters_are_the_groups),
    Case("1e308 in float64", parquet(age=columns()["age"] * 1e306), 3, r"'age' holds numbers beyond 1e\+100"),
    Case("one value of 1e300", parquet(age=with_values([1e300])), 3, r"'age' holds numbers beyond 1e\+100"),
    Case("1e-98 in float64", parquet(age=columns()["age"] * 1e-98), 0, check=clusters_are_the_groups),
    Case("denormals alone", parquet(age=columns()["age"] * 1e-312), 3, "'age' holds nothing but numbers below 1e-100"),
    Case("denormals among others", parquet(age=with_values([5e-324, 1e-310])), 0, check=has_column("age", "numeric")),
    Case(
        "nested columns",
        parquet(place=[{"x": 1.0, "y": {"z": n}} for n in range(N)]),
        0,
        "place",
        check=has_column("place", dropped=True),
    ),
    Case("lists of lists", parquet(grid=[[[1, 2], [n]] for n in range(N)]), 0, "grid"),
    Case(
        "a name of two columns",
        lambda f: (pq.write_table(pa.table([[1, 2], [3, 4]], names=["a", "a"]), f / "a.parquet"), f / "a.parquet")[1],
        3,
        "several columns named 'a'",
    ),
    Case("a column without a name", file("a.csv", b",age,plan\n" + csv_text().split(b"\n", 1)[1]), 0),
    Case(
        "dates beyond every calendar",
        parquet(day=pa.array([2**31 - 1, -(2**31), *range(N - 2)], pa.int32()).cast(pa.date32())),
        3,
        "'day'",
    ),
    Case("hostile names", parquet(**HOSTILE_COLUMNS), 0, check=nothing_is_executed, skip="map"),
    Case("hostile values", parquet(word=[HOSTILE[n % 5] for n in range(N)]), 0, check=nothing_is_executed, skip="map"),
    Case(
        "a hostile id",
        parquet(**{HOSTILE[0]: range(N)}),
        0,
        options=("-k", "2", "--id", HOSTILE[0]),
        check=nothing_is_executed,
        skip="map",
    ),
    Case("booleans and nulls alone", only(a=[True, None, False] * 20, b=[None, True, True] * 20), 0),
    Case(
        "surrogates that are no text",
        file("a.csv", csv_text().replace(b"x1", b"\xed\xa0\x80")),
        3,
        "line 3 is not UTF-8 text in column 'plan'",
    ),
]


class Bomb:
    """An object whose pickle would write a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.write_text, (self.path, "executed")


def change_bytes(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    """Return what changes the bytes of a file of a run."""
    return lambda run: (run / name).write_bytes(change((run / name).read_bytes()))


def change_json(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """Return what changes model.json, and the checksum of what it says."""

    def apply(run: Path) -> None:
        path = run / "model" / "model.json"
        document = json.loads(path.read_text())
        change(document)
        facts = {
            name: value for name, value in document.items() if name not in ("format", "arrays_sha256", "facts_sha256")
        }
        document["facts_sha256"] = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        path.write_text(json.dumps(document))

    return apply


def link_outside(name: str) -> Callable[[Path], object]:
    """Return what replaces a file of a run by a link to a text outside of it."""

    def apply(run: Path) -> None:
        (run.parent / "secret").write_text("password: hunter2")
        (run / name).unlink()
        (run / name).symlink_to(Path("..") / ".." / "secret")

    return apply


def pickle_arrays(run: Path) -> None:
    """Replace the arrays of a model by a pickle, with the checksum that belongs to it."""
    content = pickle.dumps(Bomb(run.parent / "executed"))
    (run / "model" / "arrays.safetensors").write_bytes(content)
    change_json(lambda facts: facts.update(arrays_sha256=hashlib.sha256(content).hexdigest()))(run)


def change_arrays(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """Return what changes a model's arrays, and their checksum."""

    def apply(run: Path) -> None:
        facts, arrays = read_model(run / "model")
        arrays = {name: array.copy() for name, array in arrays.items()}
        change(arrays)
        write_model(run / "model", facts, arrays)

    return apply


def first_format(run: Path) -> None:
    """Write a model as version 0.1.0 did, without a checksum of its facts."""
    path = run / "model" / "model.json"
    document = json.loads(path.read_text()) | {"format": 1}
    del document["facts_sha256"]
    path.write_text(json.dumps(document))


ARRAYS, FACTS = "model/arrays.safetensors", "model/model.json"
MODELS = [
    ModelCase("the model as it is", lambda run: None, 0),
    ModelCase("a bit of the arrays is flipped", change_bytes(ARRAYS, flip(0.7)), 6, "its checksum differs"),
    ModelCase("a bit of the header is flipped", change_bytes(ARRAYS, flip(0.01)), 6, "its checksum differs"),
    ModelCase("arrays that are cut off", change_bytes(ARRAYS, lambda data: data[:100]), 6, "its checksum differs"),
    ModelCase("no arrays", lambda run: (run / ARRAYS).unlink(), 6, "holds no model"),
    ModelCase("no facts", lambda run: (run / FACTS).unlink(), 6, "holds no model"),
    ModelCase("facts that are no JSON", change_bytes(FACTS, lambda data: data[:-9]), 6, "is not JSON"),
    ModelCase("facts that are no text", change_bytes(FACTS, lambda data: b"\xff" + data), 6, "is not JSON"),
    ModelCase("facts that are a list", change_bytes(FACTS, lambda data: b"[1]"), 6, "is of model format None"),
    ModelCase("facts that nest too deeply", change_bytes(FACTS, lambda data: b"[" * 200_000), 6, "is not JSON"),
    ModelCase(
        "a newer model", change_json(lambda facts: facts.update(format=4)), 6, r"format 4, .* reads formats \(1, 2, 3\)"
    ),
    ModelCase(
        "facts without a plan", change_json(lambda facts: facts.pop("plan")), 6, "holds no model that can be used"
    ),
    ModelCase(
        "a plan of another kind", change_json(lambda facts: facts.update(plan=[])), 6, "holds no model that can be used"
    ),
    ModelCase(
        "a plan without its columns",
        change_json(lambda facts: facts["plan"].update(columns=[])),
        6,
        "holds no model that can be used",
    ),
    ModelCase(
        "an id that is a number", change_json(lambda facts: facts.update(id=7)), 6, "holds no model that can be used"
    ),
    ModelCase(
        "another number in the facts",
        change_bytes(FACTS, lambda data: data.replace(b'"n_rows": 60', b'"n_rows": 61').replace(b"0.", b"1.", 1)),
        6,
        "its checksum differs",
    ),
    ModelCase(
        "arrays of other features",
        change_arrays(lambda arrays: arrays.update({"pca.mean_": arrays["pca.mean_"][1:]})),
        6,
        "holds no model that can be used",
    ),
    ModelCase(
        "arrays that hold NaN",
        change_arrays(lambda arrays: arrays["centres"].fill(np.nan)),
        6,
        "holds no model that can be used",
    ),
    ModelCase("a model of the first format", first_format, 0),
    ModelCase("a pickle as arrays", pickle_arrays, 6, "cannot be read"),
    ModelCase(
        "a pickle as facts", change_bytes(FACTS, lambda data: pickle.dumps(Bomb(Path("executed")))), 6, "is not JSON"
    ),
    ModelCase("facts that are a link", link_outside(FACTS), 6, "is not JSON"),
    ModelCase("arrays that are a link", link_outside(ARRAYS), 6, "its checksum differs"),
    ModelCase(
        "arrays that are a folder", lambda run: ((run / ARRAYS).unlink(), (run / ARRAYS).mkdir()), 6, "holds no model"
    ),
    ModelCase("a map that is damaged", change_bytes("map/arrays.safetensors", flip(0.5)), 6, "its checksum differs"),
    ModelCase("a run that is not complete", lambda run: (run / "_SUCCESS").unlink(), 6, "is not a complete run"),
    ModelCase("a manifest that is gone", lambda run: (run / "manifest.json").unlink(), 0),
]

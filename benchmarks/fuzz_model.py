"""Fuzz the loader of models with atheris (libFuzzer): a damaged or foreign model is refused, or assigns finite numbers.

    python benchmarks/fuzz_model.py --corpus FOLDER --report FILE -max_total_time=1800     needs atheris

An input is a mode and bytes. Modes change the files as they are, whose checksums then mostly differ, or change facts or
arrays and write the checksums again, so that what lies behind them is reached: facts as text, facts at one place, bytes
of arrays, arrays of other shapes, types and values. What is loaded has to assign rows: with numbers that are finite,
clusters that exist, and margins from 0 to 1, or with an error of the engine. Everything else is a flaw: it is counted
and kept in the report, and the run goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import atheris
import numpy as np
import pyarrow as pa
from machine_info import describe_machine
from safetensors.numpy import load as arrays_from_bytes
from safetensors.numpy import save as arrays_to_bytes

# Kernels are compiled by numba, which does not know instrumented code.
KERNELS = Path(__file__).parents[1] / "kernels"
NOT_INSTRUMENTED = [
    ".".join(["engine", "kernels", *path.relative_to(KERNELS).with_suffix("").parts]).removesuffix(".__init__")
    for path in KERNELS.rglob("*.py")
]
with atheris.instrument_imports(include=["engine", "json"], exclude=NOT_INSTRUMENTED):
    import engine
    from engine.config import FitConfig
    from engine.errors import RoomsError
    from engine.model.model import Model

SLOW_SECONDS = 10.0  # what takes longer counts as a hang
DTYPES = ("float32", "float64", "float16", "int32", "int64", "uint8", "bool")
NUMBERS = (0.0, -0.0, 1.0, -1.0, 1e-320, 1e30, 1e200, -1e308, 2.0**63, float("nan"), float("inf"), -float("inf"))
MODES = ("model.json", "arrays.safetensors", "facts as text", "a fact", "array bytes", "an array")


def make_table(n_rows: int = 60) -> pa.Table:
    """Return people with columns of every kind of plan."""
    rng = np.random.default_rng(0)
    group = np.arange(n_rows) % 3
    plans = np.array(["free", "basic", "plus"])[group]
    return pa.table(
        {
            "user_id": [f"u{row}" for row in range(n_rows)],
            "age": pa.array(30 + 10 * group + rng.normal(size=n_rows), mask=rng.random(n_rows) < 0.1),
            "visits": rng.poisson(3 + 5 * group),
            "plan": pa.array(plans, mask=rng.random(n_rows) < 0.1),
            "likes": [["music", "film", "sport"][: 1 + number] for number in rng.integers(0, 3, n_rows)],
            "spend": [f"€ {value:.2f}" for value in np.exp(group + rng.normal(size=n_rows))],
            "joined": pa.array((15_000 + 300 * group + rng.integers(0, 99, n_rows)).astype("datetime64[D]")),
        }
    )


class Fuzzer:
    """A fitted model whose files are changed, and what came of it."""

    def __init__(self, folder: Path, report: Path) -> None:
        self.table, self.folder, self.report = make_table(), folder, report
        config = FitConfig.merge({}, skip=["explain", "report"])
        engine.fit(self.table, out=folder / "run", id="user_id", n_clusters=3, config=config)
        self.model = folder / "run" / "model"
        self.text = (self.model / "model.json").read_text()
        self.arrays = (self.model / "arrays.safetensors").read_bytes()
        self.outcomes: Counter[str] = Counter()
        self.flaws: dict[str, str] = {}
        self.slowest, self.start = 0.0, time.perf_counter()

    def seeds(self) -> list[bytes]:
        """Return the first inputs of the corpus."""
        facts = json.dumps(self.facts()).encode()
        plain = [bytes([0]) + self.text.encode(), bytes([1]) + self.arrays, bytes([2]) + facts]
        return (
            plain + [bytes([4]) + self.arrays] + [bytes([mode, *range(i, i + 24)]) for mode in (3, 5) for i in range(9)]
        )

    def facts(self) -> dict[str, Any]:
        """Return the facts of the model, without checksums."""
        facts = json.loads(self.text)
        return {name: value for name, value in facts.items() if name not in ("format", "arrays_sha256", "facts_sha256")}

    def write(self, facts: Any, arrays: bytes) -> None:
        """Write files of a model whose checksums are right."""
        of_facts = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        document = {"format": 2, "arrays_sha256": hashlib.sha256(arrays).hexdigest(), "facts_sha256": of_facts}
        (self.model / "model.json").write_text(json.dumps({**document, **facts}))
        (self.model / "arrays.safetensors").write_bytes(arrays)

    def change(self, data: bytes) -> str | None:
        """Write the files that an input stands for; return its mode, None if it stands for none."""
        mode, rest = MODES[data[0] % len(MODES)], data[1:]
        if mode in ("model.json", "arrays.safetensors"):
            (self.model / "model.json").write_text(self.text)
            (self.model / "arrays.safetensors").write_bytes(self.arrays)
            (self.model / mode).write_bytes(rest)
        elif mode == "facts as text":
            try:
                facts = json.loads(rest)
            except (ValueError, RecursionError):
                return None
            if not isinstance(facts, dict):
                return None
            self.write(facts, self.arrays)
        elif mode == "a fact":
            facts = self.facts()
            change_fact(facts, atheris.FuzzedDataProvider(rest))
            self.write(facts, self.arrays)
        elif mode == "array bytes":
            self.write(self.facts(), rest)
        else:
            arrays = arrays_from_bytes(self.arrays)
            change_array(arrays, atheris.FuzzedDataProvider(rest))
            self.write(self.facts(), arrays_to_bytes(arrays))
        return mode

    def run(self, data: bytes) -> None:
        """Load a changed model and assign with it; note what is neither an error of the engine nor finite."""
        if len(data) < 2 or (mode := self.change(data)) is None:
            self.outcomes["no model"] += 1
            return
        start = time.perf_counter()
        try:
            model = Model.read(self.model, self.folder / "run" / "map")
            outcome = f"{mode}: loaded"
            problem = check(model, model.assign(self.table, place=True), self.table)
        except RoomsError as error:
            outcome, problem = f"{mode}: {type(error).__name__}", None
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            outcome, problem = f"{mode}: flaw", f"{type(error).__name__} at {Path(frame.filename).name}:{frame.name}"
        seconds = time.perf_counter() - start
        self.slowest = max(self.slowest, seconds)
        if seconds > SLOW_SECONDS:
            problem = f"{mode}: took {seconds:.0f} s"
        if problem is not None and problem not in self.flaws:
            self.flaws[problem] = data[:2000].hex()
        self.outcomes[outcome] += 1
        if sum(self.outcomes.values()) % 500 == 0 or problem is not None:
            self.save()

    def save(self) -> None:
        """Write the report."""
        facts = {
            "inputs": sum(self.outcomes.values()), "minutes": round((time.perf_counter() - self.start) / 60, 1),
            "slowest_seconds": round(self.slowest, 2), "outcomes": dict(sorted(self.outcomes.items())),
            "flaws": self.flaws, "atheris": version("atheris"), **describe_machine(),
        }  # fmt: skip
        self.report.write_text(json.dumps(facts, indent=1) + "\n")


def change_fact(facts: Any, choose: Any) -> None:
    """Replace, add or remove one value at a place in nested facts."""
    place, key = facts, None
    while isinstance(place, dict | list) and place and (key is None or choose.ConsumeIntInRange(0, 9) > 0):
        parent, keys = place, sorted(place) if isinstance(place, dict) else range(len(place))
        key = keys[choose.ConsumeIntInRange(0, len(keys) - 1)]
        place = parent[key]
    what = choose.ConsumeIntInRange(0, 9)
    values: list[Any] = [None, True, [], {}, "", [place], {"form": "number"}, choose.ConsumeInt(8)]
    if what < 4:
        parent[key] = NUMBERS[choose.ConsumeIntInRange(0, len(NUMBERS) - 1)]
    elif what < 6:
        parent[key] = values[choose.ConsumeIntInRange(0, len(values) - 1)]
    elif what == 6:
        parent[key] = choose.ConsumeUnicodeNoSurrogates(20)
    elif what == 7:
        parent[key] = choose.ConsumeRegularFloat()
    elif what == 8:
        del parent[key]
    elif isinstance(parent, list):
        parent.append(parent[0])
    else:
        parent[choose.ConsumeUnicodeNoSurrogates(10)] = place


def change_array(arrays: dict[str, Any], choose: Any) -> None:
    """Replace an array by one of another shape, type or content, or remove it."""
    names = sorted(arrays)
    name = names[choose.ConsumeIntInRange(0, len(names) - 1)]
    array, what = arrays[name], choose.ConsumeIntInRange(0, 9)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if what < 5:
            array = array.copy()
            for _ in range(choose.ConsumeIntInRange(1, 4)):
                value = NUMBERS[choose.ConsumeIntInRange(0, len(NUMBERS) - 1)]
                array.reshape(-1)[choose.ConsumeIntInRange(0, max(array.size - 1, 0))] = np.float64(value).astype(
                    array.dtype
                )
        elif what < 7:
            array = array.astype(DTYPES[choose.ConsumeIntInRange(0, len(DTYPES) - 1)])
        else:
            array = np.resize(array, [choose.ConsumeIntInRange(0, 6) for _ in range(choose.ConsumeIntInRange(0, 3))])
    if what == 9:
        del arrays[name]
    else:
        arrays[name] = np.ascontiguousarray(array)


def check(model: Model, assigned: pa.Table, table: pa.Table) -> str | None:
    """Return what is wrong with assignments, None if nothing is."""
    if assigned.num_rows != table.num_rows:
        return "rows are lost"
    values = {name: assigned[name].to_numpy() for name in ("cluster", "distance", "margin", "runner_up_odds")}
    if not ((values["cluster"] >= 0) & (values["cluster"] < model.n_clusters)).all():
        return "a cluster that does not exist"
    for name in ("distance", "margin"):
        if not np.isfinite(values[name]).all():
            return f"{name} is not finite"
    if not ((values["margin"] >= 0) & (values["margin"] <= 1)).all() or (values["distance"] < 0).any():
        return "a margin or distance that cannot be"
    if model.odds is not None and not np.isfinite(values["runner_up_odds"].astype(np.float64)).all():
        return "odds are not finite"
    places = np.stack([assigned[name].to_numpy() for name in ("map_x", "map_y")])
    return None if np.isfinite(places).all() else "a place on the map is not finite"


def version(package: str) -> str:
    """Return the version of an installed package."""
    from importlib.metadata import version as installed

    return installed(package)


def main() -> None:
    """Fuzz until libFuzzer's limits are reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    options, of_libfuzzer = parser.parse_known_args()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        with contextlib.redirect_stderr(io.StringIO()):
            fuzzer = Fuzzer(Path(folder), options.report)
        options.corpus.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(fuzzer.seeds()):
            (options.corpus / f"seed-{number:02d}").write_bytes(seed)
        atheris.Setup(
            [sys.argv[0], str(options.corpus), "-rss_limit_mb=4096", "-keep_seed=1", *of_libfuzzer], fuzzer.run
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()

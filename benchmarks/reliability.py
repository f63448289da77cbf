"""Break runs on purpose: failing file operations, kills at random instants, flipped bytes of a model.

    python benchmarks/reliability.py faults [--sample N]     every file operation of a fit fails once
    python benchmarks/reliability.py kills [--number N]      fits are killed at random instants
    python benchmarks/reliability.py model [--minutes M]     every byte of a model is changed, then random mutations
    python benchmarks/reliability.py clean --before FOLDER   CPU time of fits of a clean table, against earlier code

Each adds its figures to results/reliability.json, or to the file that --results names. Whatever happens, the old or the
new run has to be whole, the exit code has to say which, and a second run has to succeed.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from machine_info import describe_machine

SOURCE = Path(__file__).with_name("failing_files.c")
RESULTS = Path(__file__).parent / "results" / "reliability.json"
ERRORS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO}
FIT = ("-k", "3", "--id", "user_id", "--overwrite")
LEAN = ("--skip", "map,report")


def write_table(path: Path, n_rows: int) -> None:
    """Write people in three groups."""
    rng = np.random.default_rng(0)
    group = np.arange(n_rows) % 3
    columns = {
        "user_id": [f"u{row:06d}" for row in range(n_rows)],
        "age": 30 + 10 * group + rng.normal(size=n_rows),
        "hours": rng.gamma(2.0, 2.0, n_rows),
        "plan": np.array(["free", "basic", "plus"])[(group + (rng.random(n_rows) < 0.1)) % 3],
    }
    pq.write_table(pa.table(columns), path)


def digest(folder: Path) -> str:
    """Return a digest of all files of a folder."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def is_whole(run: Path, n_rows: int) -> bool:
    """Tell whether a run directory is complete: marked so, audited, readable, with all rows and a model."""
    import engine

    found = engine.Run(run)
    found.model  # noqa: B018, reads it
    return bool(found.manifest["audit"]["rows"] == len(found.assignments) == n_rows)


def rooms(*arguments: object) -> tuple[int, str]:
    """Run a command in this process; return its exit code, and what it prints on stderr."""
    from typer.testing import CliRunner

    import engine.cli

    result = CliRunner().invoke(engine.cli.app, list(map(str, arguments)))
    return result.exit_code, result.stderr


# Failing file operations


def build_shim(folder: Path) -> Path:
    """Compile the library that fails file operations."""
    library = folder / "failing_files.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl", "-lpthread"], check=True)
    return library


def faults(sample: int | None, rows: int) -> dict[str, Any]:
    """Fail every file operation of a fit once, or a random sample of them, in a process with the shim preloaded."""
    with tempfile.TemporaryDirectory() as name:
        library = build_shim(Path(name))
        command = [sys.executable, __file__, "faults", "--rows", str(rows), "--inside", str(library)]
        command += [] if sample is None else ["--sample", str(sample)]
        child = subprocess.run(
            command, env=os.environ | {"LD_PRELOAD": str(library)}, stdout=subprocess.PIPE, check=True, text=True
        )
    found: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return found


def faults_inside(library: str, sample: int | None, rows: int) -> dict[str, Any]:
    """Run the fits of `faults`, in a process that has the shim preloaded."""
    shim = ctypes.CDLL(library)
    shim.failed.restype, shim.disarm.restype = ctypes.c_char_p, ctypes.c_long
    shim.arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int]
    flaws: list[str] = []
    exit_codes: Counter[str] = Counter()
    operations: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_table(folder / "people.parquet", rows)
        budget = streamed_budget(folder / "people.parquet")
        fit = ("fit", folder / "people.parquet", *FIT, "--skip", "map", "--memory", budget)
        out = folder / "out"
        out.mkdir()
        code, message = rooms(*fit, "--out", folder / "old")
        assert code == 0, message
        old = digest(folder / "old")

        def prepare() -> None:
            shutil.rmtree(out)
            out.mkdir()
            shutil.copytree(folder / "old", out / "run")

        prepare()
        shim.arm(os.fsencode(out), 0, 0)
        code, message = rooms(*fit, "--out", out / "run")
        total = shim.disarm()
        assert code == 0, message
        cases = [(n, name) for name in ERRORS for n in range(1, total + 1)]
        cases = cases if sample is None else random.Random(0).sample(cases, min(sample, len(cases)))
        for n, error in cases:
            prepare()
            shim.arm(os.fsencode(out), n, ERRORS[error])
            code, message = rooms(*fit, "--out", out / "run")
            shim.disarm()
            what = shim.failed().decode()
            exit_codes[str(code)] += 1
            operations[what.split(" ")[0] or "not reached"] += 1
            flaws += [f"{error} at {n} ({what}): {flaw}" for flaw in look_at(out, old, code, message, rows)]
            code, message = rooms(*fit, "--out", out / "run")
            if code or not is_whole(out / "run", rows):
                flaws.append(f"{error} at {n} ({what}): the second run ended with {code}: {message}")
    return {
        "operations": total, "fits": len(cases), "flaws": flaws, "exit_codes": dict(exit_codes),
        "failed": dict(operations), "rows": rows,
    }  # fmt: skip


def streamed_budget(table: Path) -> int:
    """Return the memory with which a fit of the table is streamed: it then spills, and maps files."""
    from engine.config import FitConfig
    from engine.pipeline.memory_plan import plan_memory

    settings = FitConfig.merge({}, skip=["map"], id="user_id", memory=1)  # so that nothing is cached
    return plan_memory(10**6, pq.read_schema(table), settings, streamed=True, n_features=20).memory_bytes + 1000


def look_at(out: Path, old: str, code: int, message: str, rows: int) -> Iterator[str]:
    """Yield what is wrong after a fit with a failing file operation."""
    if not (out / "run").is_dir():
        yield "the run is gone"
    elif digest(out / "run") == old:
        if code == 0:
            yield "exit code 0, but the old run is there"
    elif not is_whole(out / "run", rows):
        yield "the run is torn"
    elif code != 0:
        yield f"exit code {code}, but the new run is there: {message}"
    if code not in (0, 2, 4):
        yield f"exit code {code}: {message}"
    if "Traceback" in message:
        yield "a traceback"


# Kills


def kills(number: int, rows: int) -> dict[str, Any]:
    """Kill so many fits at random instants; after every fourth kill a fit goes to its end, with --resume or without.

    Every fit is a process that is forked from this one, which has loaded the kernels, so that an instant lies in the
    work of the fit itself. It lies within the length of the last fit that went to its end; a fit that ends before it
    is no kill.
    """
    flaws: list[str] = []
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_table(folder / "people.parquet", rows)
        out = folder / "out" / "run"
        fit = ["fit", str(folder / "people.parquet"), *FIT, *LEAN, "--threads", "1", "--out", str(out)]
        code, message = rooms(*fit)  # compiles and loads the kernels
        assert code == 0, message
        seconds = [time_fit(fit)]
        killed, finished, replaced = 0, 0, 0
        before, known = digest(out), set[str]()
        while killed < number:
            attempt = killed + finished + 1
            same_seed = [*fit, "--seed", str(killed // 4)]  # so that there is something to resume
            resume = ["--resume"] if rng.random() < 0.5 else []
            code = wait_for(fork_fit([*same_seed, *resume]), rng.uniform(0.0, seconds[-1]))
            killed += code == -signal.SIGKILL
            finished += code != -signal.SIGKILL
            if code not in (0, -signal.SIGKILL):
                flaws.append(f"fit {attempt}: ended with {code}")
            if not out.is_dir():
                flaws.append(f"fit {attempt}: the run is gone")
            elif (now := digest(out)) != before:
                before, replaced = now, replaced + 1
                if not is_whole(out, rows):
                    flaws.append(f"fit {attempt}: the run is torn")
            if code == -signal.SIGKILL and killed % 4 == 0:
                if rng.random() < 0.5:
                    seconds.append(time_fit(fit))
                elif wait_for(fork_fit([*same_seed, "--resume"]), None):
                    flaws.append(f"fit {attempt}: what it left cannot be resumed")
                if not is_whole(out, rows):
                    flaws.append(f"fit {attempt}: the next run is not whole")
                before = digest(out)
                left = {path.name for path in out.parent.iterdir()} - {"run"}
                if left - known:
                    flaws.append(f"fit {attempt}: left behind after a run that succeeded: {sorted(left - known)}")
                known |= left
    return {
        "kills": killed, "rows": rows, "ended_before": finished, "replaced": replaced, "flaws": flaws,
        "seconds_of_a_fit": [round(min(seconds), 2), round(max(seconds), 2)],
    }  # fmt: skip


def time_fit(command: list[str]) -> float:
    """Return the seconds of a fit that has to succeed."""
    start = time.perf_counter()
    code = wait_for(fork_fit(command), None)
    if code:
        raise RuntimeError(f"a fit that nobody killed ended with {code}")
    return time.perf_counter() - start


def fork_fit(arguments: list[str]) -> int:
    """Fork a process that runs a command, as the console script does; return its number."""
    process = os.fork()
    if process:
        return process
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        sys.argv = ["rooms", *arguments]
        from engine.cli import main

        main()
        os._exit(0)
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 1)
    finally:
        os._exit(99)


def wait_for(process: int, seconds: float | None) -> int:
    """Wait until a process ends, or kill it after some seconds; return its exit code, -9 after a kill."""
    if seconds is not None:
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline:
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


# Models


def flip_model_bytes(minutes: float, every: int) -> dict[str, Any]:
    """Change bytes of a model's files: each in turn, then several at random; every load is refused or the same."""
    from engine.errors import ModelNotReadableError
    from engine.run import load

    flaws: list[str] = []
    refused, same, loads = 0, 0, 0
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_table(folder / "people.parquet", 60)
        code, message = rooms("fit", folder / "people.parquet", *FIT, "--skip", "report", "--out", folder / "run")
        assert code == 0, message
        rows = pq.read_table(folder / "people.parquet")
        expected = load(folder / "run").assign(rows)
        files = [
            folder / "run" / part / file for part in ("model", "map") for file in ("model.json", "arrays.safetensors")
        ]
        contents = {path: path.read_bytes() for path in files}

        def try_load(path: Path, content: bytes, what: str) -> None:
            nonlocal refused, same, loads
            path.write_bytes(content)
            loads += 1
            start = time.perf_counter()
            try:
                model = load(folder / "run")
                if loads % 50 == 0 and not model.assign(rows).equals(expected):
                    flaws.append(f"{what}: other assignments")
                if path.name == "model.json" and json.loads(content) != json.loads(contents[path]):
                    flaws.append(f"{what}: other facts were accepted")
                elif path.name != "model.json":
                    flaws.append(f"{what}: other arrays were accepted")
                same += 1
            except ModelNotReadableError:
                refused += 1
            except BaseException as error:
                flaws.append(f"{what}: {type(error).__name__}: {error}")
            if time.perf_counter() - start > 10:
                flaws.append(f"{what}: took more than 10 s")

        flipped = 0
        for path, content in contents.items():
            for at in range(0, len(content), every):
                value = content[at] ^ (255 if rng.random() < 0.5 else 1 << rng.randrange(8))
                try_load(path, content[:at] + bytes([value]) + content[at + 1 :], f"{path.name} byte {at} = {value}")
                flipped += 1
            path.write_bytes(content)
        mutated, deadline = 0, time.perf_counter() + 60 * minutes
        while time.perf_counter() < deadline:
            path = rng.choice(files)
            content = mutate(contents[path], rng)
            if content != contents[path]:
                try_load(path, content, f"{path.name} mutation {mutated}")
                path.write_bytes(contents[path])
                mutated += 1
    return {
        "bytes": sum(map(len, contents.values())), "flipped": flipped, "mutated": mutated, "minutes": minutes,
        "refused": refused, "same_facts": same, "flaws": flaws,
    }  # fmt: skip


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Return bytes that are cut, repeated, moved, or replaced by words of JSON, in up to four places."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at, n = rng.randrange(len(data) + 1), rng.randint(1, 40)
        kind = rng.randrange(6)
        if kind == 0:
            del data[at : at + n]
        elif kind == 1:
            data[at:at] = data[at : at + n]
        elif kind == 2:
            data[at : at + n] = rng.randbytes(n)
        elif kind == 3:
            data[at : at + rng.randint(0, 3)] = rng.choice([b"NaN", b"1e999", b"null", b"-1", b"[", b"{", b'"', b"0"])
        elif kind == 4:
            other = rng.randrange(len(data) + 1)
            data[at : at + n] = data[other : other + n]
        else:
            del data[at:]
    return bytes(data)


# Clean tables


# A process whose stages are measured in CPU time, which other processes of a busy machine do not change much.
IN_CPU_SECONDS = """
import time, types
import engine.cli, engine.pipeline.timing
engine.pipeline.timing.time = types.SimpleNamespace(perf_counter=time.process_time)
engine.cli.main()
"""


def clean(before: Path, rows: int, rounds: int) -> dict[str, Any]:
    """Fit members by earlier code and by this code, in turn: CPU time, and what share of it the audit takes.

    `before` is a folder whose `engine` is the package as it was. One thread each, so that CPU time is work.
    """
    import engine
    from engine.datasets.demo_table import write_demo

    seconds: dict[str, list[float]] = {"before": [], "after": []}
    stages: dict[str, list[dict[str, float]]] = {"before": [], "after": []}
    packages = {"before": before.resolve(), "after": Path(engine.__file__).parents[1]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        members = str(write_demo(folder / "demo", rows).members)
        for number in range(rounds + 1):
            for which, package in packages.items():
                command = [sys.executable, "-P", "-c", IN_CPU_SECONDS, "fit", members, "-k", "12", "--threads", "1"]
                command += ["--id", "user_id", *LEAN, "--out", str(folder / which), "--overwrite"]
                used = resource.getrusage(resource.RUSAGE_CHILDREN)
                subprocess.run(command, env=os.environ | {"PYTHONPATH": str(package)}, check=True, capture_output=True)
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                if number:  # the first compiles kernels
                    seconds[which].append(after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime)
                    manifest = json.loads((folder / which / "manifest.json").read_text())
                    stages[which].append({stage["stage"]: stage["seconds"] for stage in manifest["stages"]})
    medians = {which: float(np.median(found)) for which, found in seconds.items()}
    by_stage = {
        which: {name: round(float(np.median([one[name] for one in found])), 3) for name in found[0]}
        for which, found in stages.items()
    }
    common = {which: sum(by_stage[which][name] for name in by_stage["before"]) for which in by_stage}
    return {
        "rows": rows, "rounds": rounds, "cpu_seconds": {k: [round(s, 2) for s in v] for k, v in seconds.items()},
        "ratio": round(medians["after"] / medians["before"], 3),
        "ratio_of_stages_that_both_have": round(common["after"] / common["before"], 3),
        "audit_share": round(by_stage["after"]["audit"] / sum(by_stage["after"].values()), 4),
        "cpu_seconds_of_stages": by_stage,
        "flaws": [],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["faults", "kills", "model", "clean"])
    parser.add_argument("--sample", type=int, help="of the file operations; by default all")
    parser.add_argument("--rows", type=int, default=300, help="of the table that fails or is killed")
    parser.add_argument("--number", type=int, default=500, help="of kills, or of rounds of clean fits")
    parser.add_argument("--before", type=Path, help="a folder whose `engine` is the package as it was")
    parser.add_argument("--minutes", type=float, default=1.0, help="of random mutations of a model")
    parser.add_argument("--every", type=int, default=1, help="change every so many bytes of a model")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print(json.dumps(faults_inside(options.inside, options.sample, options.rows)))
        return
    start = time.perf_counter()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    if options.what == "faults":
        found = faults(options.sample, options.rows)
    elif options.what == "kills":
        found = kills(options.number, options.rows)
    elif options.what == "clean":
        found = clean(options.before, options.rows, options.number)
    else:
        found = flip_model_bytes(options.minutes, options.every)
    found |= {"seconds": round(time.perf_counter() - start, 1), "commit": commit.stdout.strip()}
    results = json.loads(options.results.read_text()) if options.results.exists() else {}
    results |= {"machine": describe_machine(), options.what: found}
    options.results.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    if found["flaws"]:
        sys.exit(1)


if __name__ == "__main__":
    main()

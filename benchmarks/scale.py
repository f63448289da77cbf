"""Fit a table of any size once, within a budget of memory, and write down what it took: time, memory, temporary disk.

    python benchmarks/scale.py FOLDER --rows 300000000 [--memory 4GiB] [--components 27] [--workers 2] [--kill-at STAGE]

FOLDER gets the table (`rooms demo` members and their planted communities, about 45 MB a million, kept for the next
call) and the run directory. `--kill-at` sends SIGKILL when that stage begins, then goes on with `--resume`; the
seconds of both parts are added. `--same-as CASE` says whether the clusters are those of another case in the results.

Every quarter of a second, memory and disk are read from outside the job: anonymous and shared pages of all its
processes, and the blocks of all files in its staging folder or held open without a name.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
from history import record
from machine_info import describe_machine, earlier_results

from engine.datasets.demo_table import N_COMMUNITIES, write_demo
from engine.kmeans.metrics import adjusted_rand_index

RESULTS = Path(__file__).parent / "results" / "scale.json"
TICK_SECONDS = 0.25
Facts = dict[str, Any]


def main() -> None:
    options = arguments()
    members = table(options.folder, options.rows)
    case = options.case or f"{options.rows} rows" + (f", {options.workers} workers" if options.workers else "")
    out = options.folder / case.replace(" ", "-").replace(",", "")
    configuration = options.folder / "scale.yaml"
    configuration.write_text(f"pca:\n  n_components: {options.components}\n" if options.components else "{}\n")
    fit = [sys.executable, "-m", "engine", "fit", str(members), "--id", "user_id", "-k", str(N_COMMUNITIES), "--json"]
    fit += ["--memory", options.memory, "--skip", options.skip, "--config", str(configuration)]
    fit += ["--workers", str(options.workers)] if options.workers else []
    facts: Facts = {
        "rows": options.rows, "memory": options.memory, "skip": options.skip, "components": options.components,
        "workers": options.workers, "table_bytes": sum(part.stat().st_size for part in members.iterdir()),
        "foretold": json.loads(subprocess.run([*fit, "--dry-run"], check=True, capture_output=True).stdout),
    }  # fmt: skip
    facts["foretold"] = {name: facts["foretold"][name] for name in ("seconds", "memory_bytes", "disk_bytes")}
    parts = [watched([*fit, "--out", str(out), "--overwrite"], out, options.kill_at)]
    if options.kill_at:
        parts.append(watched([*fit, "--out", str(out), "--resume"], out, None))
    manifest = json.loads((out / "manifest.json").read_text())
    facts["parts"] = parts
    facts["seconds"] = round(sum(part["seconds"] for part in parts), 1)
    facts["cpu_seconds"] = round(sum(part["cpu_seconds"] for part in parts), 1)
    facts["sampled_memory_bytes"] = max(part["memory_bytes"] for part in parts)
    facts["disk_bytes"] = max(part["disk_bytes"] for part in parts)
    facts["own_memory_bytes"] = max(stage["peak_own_bytes"] for stage in manifest["stages"])
    facts["stages"] = {stage["stage"]: stage["seconds"] for stage in manifest["stages"]}
    facts |= {name: manifest[name] for name in ("inertia", "iterations", "features", "components", "plan", "audit")}
    facts["output_bytes"] = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    facts |= against_planted(out, options.folder / str(options.rows) / "planted")
    document = earlier_results(RESULTS)
    document["machine"] = describe_machine()
    cases = document.setdefault("cases", {})
    if options.same_as:
        facts["same_bits_as"] = {options.same_as: cases[options.same_as]["clusters_sha256"] == facts["clusters_sha256"]}
    cases[case] = facts
    record(RESULTS, document)
    print(json.dumps(facts, indent=1))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=300_000_000)
    parser.add_argument("--memory", default="4GiB")
    parser.add_argument("--skip", default="map,report")
    parser.add_argument("--components", type=int)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--kill-at")
    parser.add_argument("--case", help="name of the case in the results; by default from the other options")
    parser.add_argument("--same-as")
    return parser.parse_args()


def table(folder: Path, rows: int) -> Path:
    """Return the folder of the members; write it, and its planted communities, unless an earlier call did."""
    if not (folder / str(rows) / "planted").exists():
        write_demo(folder / str(rows), rows)
    return folder / str(rows) / "members"


def watched(command: list[str], out: Path, kill_at: str | None) -> Facts:
    """Run a fit to its end, or until a stage begins; return seconds, CPU seconds, and peaks of memory and disk."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    started = time.perf_counter()
    log = out.with_suffix(".log")
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True)
    peaks = {"memory_bytes": 0, "disk_bytes": 0}
    killed = threading.Event()

    def watch() -> None:
        staging = out.parent / f".{out.name}.staging"
        while process.returncode is None:
            family = family_of(process.pid)
            peaks["memory_bytes"] = max(peaks["memory_bytes"], sum(map(own_bytes, family)))
            peaks["disk_bytes"] = max(peaks["disk_bytes"], disk_bytes(family, staging))
            if kill_at and (staging / "checkpoints").exists() and reached(staging, kill_at):
                killed.set()
                for one in family:
                    os.kill(one, signal.SIGKILL)
                return
            time.sleep(TICK_SECONDS)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    assert process.stdout is not None
    process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    watcher.join()
    if process.returncode != 0 and not killed.is_set():
        raise SystemExit(f"exit code {process.returncode}: {log.read_text()[-2000:]}")
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "system_cpu_seconds": round(usage.ru_stime, 1),
        "memory_bytes": peaks["memory_bytes"],
        "disk_bytes": peaks["disk_bytes"],
        "load": round(os.getloadavg()[0], 1),
        "killed_at": kill_at,
    }


def reached(staging: Path, stage: str) -> bool:
    """Tell whether the checkpoint of a stage lies in the staging folder."""
    return any(path.name.startswith(stage) for path in (staging / "checkpoints").iterdir())


def family_of(pid: int) -> list[int]:
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def own_bytes(pid: int) -> int:
    """Return the anonymous and shared resident memory of a process, without pages of files."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))


def disk_bytes(family: list[int], staging: Path) -> int:
    """Return the bytes on disk of files in the staging folder, and of open files without a name."""
    blocks: dict[tuple[int, int], int] = {}
    for found in files(family, staging):
        blocks[found.st_dev, found.st_ino] = found.st_blocks * 512
    return sum(blocks.values())


def files(family: list[int], staging: Path) -> Iterator[os.stat_result]:
    for folder, _, names in os.walk(staging):
        for name in names:
            try:
                yield os.stat(os.path.join(folder, name))
            except OSError:
                continue
    for pid in family:
        try:
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for descriptor in descriptors:
            path = f"/proc/{pid}/fd/{descriptor}"
            try:
                if os.readlink(path).startswith("/") and os.readlink(path).endswith(" (deleted)"):
                    yield os.stat(path)
            except OSError:
                continue


def against_planted(run: Path, planted: Path) -> Facts:
    """Return the adjusted Rand index against the planted communities, and a digest of all clusters in order."""
    names: dict[str, int] = {}
    counts = np.zeros((N_COMMUNITIES, N_COMMUNITIES), np.int64)
    digest = hashlib.sha256()
    n_rows = 0
    truth = community_codes(planted, names)
    for part in sorted((run / "assignments").iterdir()):
        for batch in pq.ParquetFile(part).iter_batches(columns=["user_id", "cluster"], batch_size=1 << 16):
            ids, codes = next(truth, (None, None))
            clusters = batch["cluster"].to_numpy()
            if ids is None or not np.array_equal(ids, batch["user_id"].to_numpy()):
                raise SystemExit("the ids that were written are not those of the table, in its order")
            digest.update(np.ascontiguousarray(clusters, np.int32))
            np.add.at(counts, (codes, clusters), 1)
            n_rows += len(clusters)
    return {
        "rows_written": n_rows,
        "adjusted_rand_index": round(adjusted_rand_index(counts), 4),
        "clusters_sha256": digest.hexdigest(),
    }


def community_codes(planted: Path, names: dict[str, int]) -> Iterator[tuple[Any, Any]]:
    """Yield ids and codes of the planted communities, 65,536 rows at a time."""
    for part in sorted(planted.iterdir()):
        for batch in pq.ParquetFile(part).iter_batches(batch_size=1 << 16):
            found = batch["community"].dictionary_encode()
            codes = np.array([names.setdefault(name, len(names)) for name in found.dictionary.to_pylist()])
            yield batch["user_id"].to_numpy(), codes[found.indices.to_numpy()]


if __name__ == "__main__":
    main()

"""Measure examples/serve.py: requests of ten rows from several clients at once, and the CPU time that the server takes.

    python benchmarks/serve.py RUN TABLE [--clients 1,8,32] [--windows 20] [--rounds 3] [--record]

The CPU time of a request bounds how many one core answers. It is the median over windows, and the least of them, which
other programs on the machine disturb least. Rounds take the numbers of clients in turn. `--record` writes
results/serve.json. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds

EXAMPLES = Path(__file__).parents[1] / "examples"
ROWS, BODIES, REQUESTS = 10, 200, 5  # rows of a request, different requests, requests of a client in a window


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has taken, to the nanosecond."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


async def ask(port: int, bodies: list[bytes]) -> None:
    """Send requests over one connection, each after the answer to the one before."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for body in bodies:
        head = (
            f"POST /assign HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert b" 200 " in answer.split(b"\r\n")[0], answer
        await reader.readexactly(int(answer.split(b"content-length: ")[1].split(b"\r\n")[0]))
    writer.close()


async def measure(port: int, pid: int, bodies: list[bytes], n_clients: int, n_windows: int) -> list[float]:
    """Return the microseconds of CPU that a request took, in each window."""
    micros = []
    for window in range(n_windows):
        before = cpu_seconds(pid)
        shares = [bodies[(window + client) % BODIES :][:REQUESTS] for client in range(n_clients)]
        await asyncio.gather(*(ask(port, share) for share in shares))
        micros.append((cpu_seconds(pid) - before) / sum(map(len, shares)) * 1e6)
    return micros


def summary(micros: list[float]) -> dict[str, float]:
    """Return what the windows say."""
    middle = statistics.median(micros)
    return {"median_us": round(middle), "least_us": round(min(micros)), "requests_a_core_second": round(1e6 / middle)}


def main() -> None:
    """Start the server, measure, and stop it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("table")
    parser.add_argument("--clients", default="1,8,32")
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    rows = ds.dataset(options.table).head(ROWS * BODIES).to_pylist()
    bodies = [json.dumps(rows[i : i + ROWS], default=str).encode() for i in range(0, len(rows), ROWS)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "serve:app", "--port", str(port)]
    environment = os.environ | {"ROOMS_RUN": options.run}
    server = subprocess.Popen([*command, "--no-access-log", "--log-level", "warning"], env=environment)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health")
                break
            except OSError:
                time.sleep(0.2)
        counts = [int(count) for count in options.clients.split(",")]
        found: dict[int, list[float]] = {count: [] for count in counts}
        for _ in range(options.rounds):
            for count in counts:
                found[count] += asyncio.run(measure(port, server.pid, bodies, count, options.windows))
    finally:
        server.terminate()
        server.wait()
    cases = {f"{count} clients": summary(micros) for count, micros in found.items()}
    print(json.dumps(cases, indent=1))
    if options.record:
        from history import record
        from machine_info import describe_machine

        document: dict[str, Any] = {"machine": describe_machine(), "rows_a_request": ROWS, "columns": len(rows[0])}
        document |= {"load_average": [round(load, 1) for load in os.getloadavg()], "cases": cases}
        record(Path(__file__).parent / "results" / "serve.json", document)


if __name__ == "__main__":
    main()

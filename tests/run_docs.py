"""Run the README: every ```bash and ```python block, in order, in one empty folder, and fail where one fails.

    python tests/run_docs.py

Blocks that need the real tables (they mention $DATA) are skipped, visibly, where the tables are absent; blocks that
set up the machine (make, pip) are what brought this script here. `$DATA` is their folder.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parents[1]
DATA = Path(os.environ.get("ROOMS_SHARED_DATA", HERE.parent / "shared" / "data"))
PATIENCE = 600  # seconds: a block that hangs is an error that names it
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def main() -> int:
    """Run all blocks; return the exit code."""
    ran = skipped = 0
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "docs").symlink_to(HERE / "docs")
        for number, match in enumerate(BLOCK.finditer((HERE / "README.md").read_text()), 1):
            kind, text = match.groups()
            if re.search(r"^(make|pip|git|conda) ", text, re.MULTILINE):
                continue
            if "DATA" in text and not DATA.is_dir():
                print(f"block {number}: skipped, the real tables are not at {DATA}")
                skipped += 1
                continue
            command = ["bash", "-euo", "pipefail", "-c", text] if kind == "bash" else [sys.executable, "-c", text]
            start = time.perf_counter()
            environment = {**os.environ, "DATA": str(DATA)}
            done = subprocess.run(command, cwd=folder, env=environment, check=False, timeout=PATIENCE)
            seconds = time.perf_counter() - start
            print(f"block {number} ({kind}): {seconds:.1f} s, exit code {done.returncode}", flush=True)
            if done.returncode:
                print(text)
                return 1
            ran += 1
    print(f"{ran} passed, 0 failed, {skipped} skipped")
    return 0 if ran else 1


if __name__ == "__main__":
    sys.exit(main())

"""Run the documentation: every ```bash and ```python block of the README and of docs/, then the notebook.

    python tests/run_docs.py [--page NAME]

All pages share one folder, which is empty at first. The README's files are there for every page; a page may rely on no
other page, so `--page memory` runs the README and docs/memory.md alone. Blocks that mention $DATA need the real tables
(MovieLens and others) and are skipped, visibly, where ROOMS_SHARED_DATA has none, with the rest of the page; blocks
that set up a machine (make, pip, conda, git) are skipped too.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("ROOMS_SHARED_DATA", ROOT.parent / "shared" / "data"))
PATIENCE = 600  # seconds: a block that takes longer is an error that names it
FENCE = re.compile(r"^```(bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SETS_UP = re.compile(r"^(make|pip|git|conda) ", re.MULTILINE)


class CodeBlock(NamedTuple):
    """One block of a page, as a reader would run it."""

    page: str
    line: int
    kind: str  # "bash" or "python"
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line} ({self.kind})"

    def reason_to_skip(self) -> str | None:
        """Return why the block cannot be run here; None if it can."""
        if SETS_UP.search(self.text):
            return "it sets up a machine"
        if "$DATA" in self.text and not DATA.is_dir():
            return f"the real tables are not at {DATA}"
        return None

    def command(self) -> list[str]:
        """Return the process that runs the block; a shell stops at the first command that fails."""
        return (
            ["bash", "-euo", "pipefail", "-c", self.text] if self.kind == "bash" else [sys.executable, "-c", self.text]
        )


def blocks_of(page: str, text: str) -> Iterator[CodeBlock]:
    """Yield the blocks of a Markdown page, or all code cells of a notebook as one block."""
    if page.endswith(".ipynb"):
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        yield CodeBlock(page, 1, "python", "".join("".join(cell["source"]) + "\n" for cell in cells))
        return
    for match in FENCE.finditer(text):
        yield CodeBlock(page, text.count("\n", 0, match.start()) + 1, match[1], match[2])


def pages(only: str | None) -> list[str]:
    """Return the pages to run, the README first."""
    found = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))
    found += sorted(str(path.relative_to(ROOT)) for path in (ROOT / "examples").glob("*.ipynb"))
    if only is not None:
        found = [page for page in found if Path(page).stem == only]
        if not found and only != "README":
            raise SystemExit(f"There is no page {only!r} in docs/ or examples/.")
    return ["README.md", *found]


def run(block: CodeBlock, folder: Path) -> bool:
    """Run a block in a folder, say how long it took, and return whether it passed."""
    start = time.perf_counter()
    try:
        done = subprocess.run(
            block.command(), cwd=folder, env={**os.environ, "DATA": str(DATA)}, check=False, timeout=PATIENCE
        )
        outcome = "passed" if done.returncode == 0 else f"failed with exit code {done.returncode}"
    except subprocess.TimeoutExpired:
        outcome = f"failed: it was still running after {PATIENCE} s"
    print(f"{block}: {outcome}, {time.perf_counter() - start:.1f} s", flush=True)
    return outcome == "passed"


def main() -> int:
    """Run all blocks until one fails; return the exit code."""
    parser = argparse.ArgumentParser(description="Run the blocks of the README and of docs/.")
    parser.add_argument("--page", help="a page of docs/ or examples/ without its ending: README and this page alone")
    only = parser.parse_args().page
    passed = skipped = 0
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "examples").symlink_to(ROOT / "examples")
        for page in pages(only):
            absent = None  # why this page's tables are not there, once a block has needed them
            for block in blocks_of(page, (ROOT / page).read_text()):
                reason = block.reason_to_skip() or absent
                absent = reason if "$DATA" in block.text else absent
                if reason is not None:
                    print(f"{block}: skipped, {reason}", flush=True)
                    skipped += 1
                elif run(block, folder):
                    passed += 1
                else:
                    print(block.text)
                    return 1
    print(f"{passed} passed, 0 failed, {skipped} skipped, {time.perf_counter() - start:.0f} s")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())

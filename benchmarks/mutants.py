"""Change the code of explain and of the kernels in one place at a time: the tests should notice.

    python benchmarks/mutants.py [--number N] [--kernels M] [--seed S]

A mutant is a copy of the source tree with one comparison, sign, number, condition or boolean operator changed. The
tests of its folder run on it, and others of the part if they pass. It is killed if a test fails or takes far too
long; else it survived, and is listed in results/reliability.json. A kernel that is changed is compiled again with its
callers: the files that compiled kernels are kept in name the sources they were compiled from.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "reliability.json"
LIMIT_SECONDS = 600  # of the tests of a mutant, on a busy machine: those that are killed so loop for ever
HEAVY = ("numpy", "scipy.stats", "pyarrow.dataset", "pyarrow.parquet", "numba", "sklearn.tree", "pandas", "duckdb",
         "hypothesis", "pytest")  # fmt: skip
# Tests of the folders whose code is changed: the next ones run where these find nothing.
TESTS = {
    "engine/explain/binning": ("tests/explain/binning", "tests/explain/rules", "tests/explain/test_explain_run.py"),
    "engine/explain/rules": ("tests/explain/rules", "tests/explain/test_export.py",
                             "tests/explain/test_explain_run.py"),
    "engine/explain/personas": ("tests/explain/personas", "tests/explain/test_explain_run.py"),
    "engine/explain": ("tests/export/test_sql_number_texts.py tests/export/test_sql_date_texts.py",
                       "tests/explain/test_export.py", "tests/explain/test_export_sql.py"),
    "kernels/cpu/explain": ("tests/kernels/explain", "tests/explain/rules tests/explain/binning"),
    "kernels/cpu/hashing": ("tests/kernels/hashing", "tests/tables/test_unique_ids.py"),
    "kernels/cpu/features": ("tests/kernels/features", "tests/features/test_encoder.py"),
    "kernels/cpu/pca": ("tests/kernels/pca", "tests/pca"),
    "kernels/cpu/kmeans": ("tests/kernels/kmeans", "tests/kmeans/test_estimator.py tests/kmeans/test_bounds.py"),
}  # fmt: skip
SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


class Mutant(NamedTuple):
    """One change: the number of the node in its file, in the order of ast.walk, and what is done there."""

    path: str
    node: int
    line: int
    change: str


def find_mutants(path: Path) -> Iterator[Mutant]:
    """Yield all changes of a file."""
    tree = ast.parse(path.read_text())
    name = str(path.relative_to(ROOT))
    left_out = {id(part) for node in ast.walk(tree) for part in _not_run(node)}
    for number, node in enumerate(ast.walk(tree)):
        if id(node) not in left_out and (change := mutate(copy.deepcopy(node))) is not None:
            yield Mutant(name, number, getattr(node, "lineno", 0), change)


def _not_run(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts of a node that are no code: annotations, and what runs for a type checker only."""
    parts: list[ast.AST | None] = []
    if isinstance(node, ast.FunctionDef):
        parts += [node.returns, *node.decorator_list]
    if isinstance(node, ast.arg | ast.AnnAssign):
        parts += [node.annotation]
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        parts += [node]
    for part in parts:
        yield from ast.walk(part) if part is not None else ()


def mutate(node: ast.AST) -> str | None:
    """Change a node in place; return what was changed in words, None if nothing can be."""
    before = ast.unparse(node) if isinstance(node, ast.expr) else ""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPPED:
        node.ops[0] = SWAPPED[type(node.ops[0])]()  # type: ignore[call-overload]
    elif isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in SWAPPED and "'" not in before:
        node.op = SWAPPED[type(node.op)]()  # type: ignore[assignment]
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
        node.value = not node.value if isinstance(node.value, bool) else node.value + 1
    elif isinstance(node, ast.If | ast.IfExp):
        before = f"if {ast.unparse(node.test)}"
        node.test = ast.UnaryOp(ast.Not(), node.test)
        return f"{before} -> if not ..."
    else:
        return None
    return f"{before} -> {ast.unparse(node)}"


def apply(mutant: Mutant, tree_root: Path) -> None:
    """Write the changed file into a copy of the source tree."""
    tree = ast.parse((ROOT / mutant.path).read_text())
    node = next(node for number, node in enumerate(ast.walk(tree)) if number == mutant.node)
    mutate(node)
    (tree_root / mutant.path).write_text(ast.unparse(ast.fix_missing_locations(tree)))


def copy_tree(folder: Path) -> None:
    """Copy the source and the tests, and link them as they are installed: kernels/ is engine.kernels."""
    for part in ("engine", "kernels", "tests", "benchmarks", "docs", "examples"):
        shutil.copytree(ROOT / part, folder / part, symlinks=True)
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / file, folder / file)
    (folder / "link" / "engine").mkdir(parents=True)
    for path in [*(folder / "engine").iterdir(), folder / "kernels"]:
        (folder / "link" / "engine" / path.name).symlink_to(path)


def run_tests(folder: Path, tests: str) -> int | None:
    """Run tests on the copy in a forked process, which has the libraries; return the exit code, None after a kill."""
    process = os.fork()
    if process == 0:
        os.setsid()
        os.chdir(folder)
        os.environ.update(NUMBA_NUM_THREADS="1", PYTHONDONTWRITEBYTECODE="1")
        sys.path[:0] = [str(folder / "link"), str(folder)]
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        import pytest

        os._exit(int(pytest.main(["-x", "-q", "-n0", "-p", "no:cacheprovider", *tests.split()])))
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def draw(number: int, kernels: int, seed: int) -> list[Mutant]:
    """Draw mutants of explain, and of the kernels, each with the same probability."""
    drawn = []
    for root, n in ((ROOT / "engine/explain", number), (ROOT / "kernels/cpu", kernels)):
        paths = [path for path in sorted(root.rglob("*.py")) if str(path.parent.relative_to(ROOT)) in TESTS]
        found = [mutant for path in paths for mutant in find_mutants(path)]
        drawn += random.Random(seed).sample(found, min(n, len(found)))
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=100, help="of mutants of explain")
    parser.add_argument("--kernels", type=int, default=50, help="of mutants of the kernels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    for name in HEAVY:
        importlib.import_module(name)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_tree(folder)
        drawn = draw(options.number, options.kernels, options.seed)
        for tests in sorted({tests for mutant in drawn for tests in TESTS[str(Path(mutant.path).parent)]}):
            if run_tests(folder, tests) != 0:
                raise RuntimeError(f"{tests} fail without any change")
        for mutant in drawn:
            apply(mutant, folder)
            codes = []
            for tests in TESTS[str(Path(mutant.path).parent)]:
                codes.append(run_tests(folder, tests))
                if codes[-1] != 0:
                    break
            shutil.copy(ROOT / mutant.path, folder / mutant.path)
            begun = {"tried": 0, "survived": [], "commit": commit.stdout.strip(), "seed": options.seed}
            part = found.setdefault(mutant.path.split("/")[0], begun)
            part["tried"] += 1
            if codes[-1] == 0:
                part["survived"].append(f"{mutant.path}:{mutant.line} {mutant.change}")
            print(json.dumps([*mutant, codes]), flush=True)
            results = json.loads(options.results.read_text()) if options.results.exists() else {}
            results["mutants"] = results.get("mutants", {}) | found
            options.results.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

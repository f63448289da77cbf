"""Imports run down the layers only, whether they are at the top of a file, in a function, or for types alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the top down: a file may import from its own layer and from those below it. docs/architecture.md shows this list.
LAYERS = (
    "cli", "bench", "accel", "mlflow",
    "comparison", "pipeline",
    "lineage",
    "run",
    "report", "explain", "model",
    "export",
    "gate",
    "tsne", "kmeans", "pca", "features",
    "ratings", "datasets", "tables",
    "backends",
    "execution",
    "blocks", "config", "progress", "utils",
    "kernels",
    "errors",
)  # fmt: skip
# Files that only start or name what stands above them: the public names, and `python -m engine`.
FRONT_DOORS = ("engine/__init__.py", "engine/__main__.py")
# What may change with any release of numba, and the only files that may import it: a folder ends with a slash.
NUMBA_INTERNALS = ("llvmlite", "numba.core", "numba.extending")
USERS_OF_NUMBA_INTERNALS = (
    "kernels/cpu/simd/",
    "kernels/cpu/__init__.py",  # listens for compilation
    "kernels/cpu/cache_folder.py",  # asks numba where it caches
    "kernels/cpu/kernel_cache.py",  # takes the place of numba's cache
    "kernels/cpu/jit_options.py",
    "engine/cli/doctor_checks.py",  # reports the host's features and the cache
    "engine/bench/run.py",  # names the host's processor
)


def modules() -> dict[str, Path]:
    """Return the file of every module of the engine, by its dotted name; kernels/ is engine.kernels."""
    found = {}
    for folder, prefix in (("engine", ""), ("kernels", "engine.")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = prefix + ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = path
    return found


def layer_of(module: str) -> str:
    """Return the layer of a module of the engine: its first name below `engine`."""
    return module.split(".")[1]


def imports_of(path: Path, known: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """Yield line and name of every module of the engine that a file imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names]
            names = [name if name in known else module for name in names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in known:
            names = [node.value]  # as importlib.import_module and `python -m` are given it
        else:
            continue
        for name in names:
            if name in known and name.startswith("engine."):
                yield node.lineno, name


MODULES = modules()


@pytest.mark.parametrize(
    "module", [name for name, path in MODULES.items() if str(path.relative_to(ROOT)) not in FRONT_DOORS]
)
def test_a_file_imports_nothing_that_stands_above_it(module: str) -> None:
    path = MODULES[module]
    own = LAYERS.index(layer_of(module))
    upward = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for line, name in imports_of(path, MODULES)
        if LAYERS.index(layer_of(name)) < own
    ]
    assert not upward, "\n".join(upward)


def numba_internals_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and name of every import of numba's internals and of llvmlite, wherever in the file it stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if f"{name}.".startswith(tuple(f"{internal}." for internal in NUMBA_INTERNALS)):
                yield node.lineno, name


def test_only_the_simd_folder_and_a_few_named_files_import_the_internals_of_numba() -> None:
    users = {
        str(path.relative_to(ROOT)): f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in MODULES.values()
        for line, name in numba_internals_of(path)
    }
    outside = [message for file, message in users.items() if not file.startswith(USERS_OF_NUMBA_INTERNALS)]
    assert not outside, "\n".join(outside)
    assert "kernels/cpu/simd/vectors.py" in users  # so the search does find them


def test_the_architecture_page_shows_these_layers() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    floors = "".join(line for line in text.splitlines(keepends=True) if line.startswith("    ") and " | " in line)
    assert tuple(name.removesuffix(".py") for name in floors.replace("|", " ").split()) == LAYERS

"""A pass of the Triton kernels in the interpreter: labels by the definition, exact sums, mutants caught."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("triton", reason="Triton is not installed: make test-gpu-kernels has an environment with it")

from engine.kernels.cuda.launch import read_kernels
from tests.kernels.cuda.cases import CASES, mixture
from tests.kernels.cuda.interpreted import Sources, check, run
from tests.kernels.cuda.mutants import MUTANTS


def load(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", CASES)
def test_a_pass_does_what_plain_loops_do(name: str) -> None:
    check(CASES[name](), Sources())


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name: str, tmp_path: Path) -> None:
    where, before, after = MUTANTS[name]
    text = Path(getattr(Sources(), where).__file__).read_text()
    assert before in text, "the source has changed: this mutant is none any more"
    path = tmp_path / f"{where}.py"
    path.write_text(text.replace(before, after))
    mutated = Sources()._replace(**{where: load(path, f"mutant_{where}")})
    caught = []
    for case in CASES:
        try:
            check(CASES[case](), mutated)
        except Exception as error:  # an assertion, or the interpreter's own error
            caught.append(f"{case}: {type(error).__name__}")
            break
    assert caught


def test_labels_do_not_depend_on_tiles_and_launches() -> None:
    found = []
    for tiles, list_rows in (({"ROWS": 64, "CENTERS": 16}, 1000), ({"ROWS": 32, "CENTERS": 32, "FEATURES": 16}, 77)):
        found.append(run(mixture(300, 24, 40, seed=13, tiles=tiles, list_rows=list_rows), Sources()))
    assert [len(outcome.launched) for outcome in found] == [2, 8]
    for name in ("labels", "sums", "masses", "n_changed"):
        np.testing.assert_array_equal(getattr(found[0], name), getattr(found[1], name))


SHAPES = {
    "few centers": lambda: mixture(130, 64, 20),
    "many centers": lambda: mixture(70, 10, 70, seed=1),
    "blocks of features": lambda: mixture(70, 150, 5, seed=2),
    "weights": CASES["weights"],
    "ties": CASES["ties"],
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("architecture", [80, 100])
def test_a_pass_launches_what_was_compiled(name: str, architecture: int) -> None:
    """Arguments go through the parameters of the cubins that are committed."""
    check(SHAPES[name](), Sources(), read_kernels(architecture))

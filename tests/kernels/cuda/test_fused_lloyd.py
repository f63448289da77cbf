"""A pass of the Triton kernels in the interpreter: labels by the definition, exact sums, mutants caught."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("triton", reason="Triton is not installed: make test-gpu-kernels has an environment with it")

from engine.kernels.cuda.kmeans import certificate, lloyd
from tests.kernels.cuda.cases import CASES, mixture
from tests.kernels.cuda.interpreted import check, run
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
    check(CASES[name](), lloyd, certificate)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name: str, tmp_path: Path) -> None:
    where, before, after = MUTANTS[name]
    sources = {"lloyd": Path(lloyd.__file__), "certificate": Path(certificate.__file__)}
    text = sources[where].read_text()
    assert before in text, "the source has changed: this mutant is none any more"
    path = tmp_path / f"{where}.py"
    path.write_text(text.replace(before, after))
    mutated = {"lloyd": lloyd, "certificate": certificate} | {where: load(path, f"mutant_{where}")}
    caught = []
    for case in CASES:
        try:
            check(CASES[case](), mutated["lloyd"], mutated["certificate"])
        except Exception as error:  # an assertion, or the interpreter's own error
            caught.append(f"{case}: {type(error).__name__}")
            break
    assert caught


def test_labels_do_not_depend_on_tiles_and_copies() -> None:
    found = []
    for tiles, n_copies in (({"ROWS": 64, "CENTERS": 16}, 1), ({"ROWS": 32, "CENTERS": 32, "FEATURES": 16}, 5)):
        found.append(run(mixture(300, 24, 40, seed=13, tiles=tiles, n_copies=n_copies), lloyd, certificate))
    for name in ("labels", "sums", "masses", "n_changed"):
        np.testing.assert_array_equal(getattr(found[0], name), getattr(found[1], name))


def test_rows_beyond_two_to_the_31_values_are_found() -> None:
    """The last tile of a table of 2^31 + 1024 values: memory that nobody touches costs nothing."""
    import torch

    d, k = 16, 3
    n = (2**31 + 1024) // d
    X = np.zeros((n, d), np.float32)  # pages come when they are written
    random = np.random.default_rng(0)
    X[-64:] = random.normal(size=(64, d))
    centers = random.normal(size=(k, d)).astype(np.float32)
    ready = certificate.prepare_centers(np, centers, np.zeros(d), 1.0, 16, d)
    labels = np.full(n, -1, np.int32)
    put = torch.from_numpy
    parts = [put(bits.view(np.int16)).view(torch.bfloat16) for bits in (ready.high, ready.low)]
    sums, masses = torch.zeros(1, k, d, dtype=torch.int64), torch.zeros(1, k, dtype=torch.int64)
    opened, counts = torch.full((64,), -1, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
    zeros, scale = put(np.zeros(d)), put(np.full(d, 2.0**20))
    lloyd.label_rows[(1,)](
        put(X), zeros, *parts, put(ready.offsets), put(ready.blurs), zeros, put(np.zeros(d, np.float32)), scale,
        put(labels), sums, masses, opened, counts, n - 64, n, k, d, 1.0, certificate.error_bound(d).per_row,
        certificate.FLOOR, 1.0, 1, ROWS=64, CENTERS=16, FEATURES=16, FEATURE_BLOCKS=1, WEIGHTED=False, WIDEN=True,
    )  # fmt: skip
    apart = ((X[-64:, None].astype(np.float64) - centers.astype(np.float64)) ** 2).sum(axis=2)
    n_open = int(counts[0])
    decided = np.setdiff1d(np.arange(n - 64, n), opened.numpy()[:n_open])
    assert len(decided) > 60
    np.testing.assert_array_equal(labels[decided], apart.argmin(axis=1)[decided - (n - 64)])
    assert (labels[: n - 64] == -1).all()

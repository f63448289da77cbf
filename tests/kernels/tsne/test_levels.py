"""The kernels of the map have the same bits with vectors of 16, 8 and 4 lanes, with and without fused instructions."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import llvmlite.binding as llvm
import numpy as np
import pytest

from engine.kernels.cpu.tsne import affinities, exact_repulsion, gradient_step, grid_repulsion
from engine.kernels.cpu.tsne.affinities import UINT16_ROWS
from engine.tsne.affinities import affinities_of_neighbors
from engine.tsne.repulsion import InterpolationGrid
from engine.utils.array_types import Float32s, Float64s, Int32s

N, K = 301, 37  # neither is a multiple of the lanes


def neighbors_of(points: Float64s) -> tuple[Int32s, Float64s]:
    squared = ((points[:, None] - points) ** 2).sum(axis=2)
    positions = np.argsort(squared, axis=1, kind="stable")[:, 1 : K + 1].astype(np.int32)
    return positions, np.take_along_axis(squared, positions, axis=1)


def digests() -> dict[str, str]:
    """Return a digest of what each kernel computes of the same rows."""
    random = np.random.default_rng(0)
    P = affinities_of_neighbors(*neighbors_of(random.normal(size=(N, 3))), 12.0)
    xs, ys = (9.0 * random.normal(size=(2, N))).astype(np.float32)
    pairs = np.zeros((UINT16_ROWS, 2), np.float32)
    pairs[:N, 0], pairs[:N, 1] = xs, ys
    exact, attraction, read = np.zeros((3, N, 2), np.float32)
    z = exact_repulsion.compute_exact_repulsion(xs, ys, 0, N, exact)
    for edges in (P.neighbor_edges, P.reverse_edges):
        gradient_step.add_attraction(pairs.ravel(), 0, N, edges, attraction)
    field = InterpolationGrid().compute_field(xs, ys)
    grid_repulsion.interpolate_forces(xs, ys, 0, N, field.origin, field.potential, read)
    weights = P.neighbor_edges.weights[: P.neighbor_edges.offsets[-1]]
    found: dict[str, list[Float32s]] = {
        "weights": [affinities.decode_weights(weights)],
        "exact repulsion": [exact, np.array([z])],
        "attraction": [attraction],
        "field": [field.potential, np.array([field.z])],
        "forces": [read],
    }
    return {name: hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest() for name, arrays in found.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cpu", "features", "lanes"), [("haswell", "+avx2,+fma,+avx,+sse4.2", 8), ("generic", "+sse2", 4)]
)
def test_narrower_vectors_draw_the_map_to_the_same_bits(cpu: str, features: str, lanes: int) -> None:
    if llvm.get_process_triple().split("-")[0] != "x86_64":
        pytest.skip("these are names of x86 processors")
    features = {"haswell": "+avx2,+fma,+avx,+sse4.2", "generic": "+sse2"}[cpu]
    code = f"""
import json
from engine.kernels.cpu.simd.vectors import LANES
from tests.kernels.tsne.test_levels import digests

assert LANES == {lanes}, LANES
print(json.dumps(digests()))
"""
    environment = {**os.environ, "NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == digests()

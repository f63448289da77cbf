"""The committed cubins are those of the source, and take the arguments that a launch packs; neither needs Triton."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.kernels.cuda.kmeans import fused_pass
from engine.kernels.cuda.launch import (
    ARCHITECTURES,
    ARRAYS,
    FOLDER,
    SCALARS,
    SCRATCH,
    CompiledKernel,
    architecture_of,
    pack_arguments,
    read_kernels,
)
from tests.gpu.cubin import read_block_size, read_parameters
from tests.kernels.cuda.archives import read_archive

SHARED_BYTES = {
    80: 99 << 10,
    90: 227 << 10,
    100: 227 << 10,
    120: 99 << 10,
}  # of a block: 8.6 and 8.9 have less than 8.0
REGISTERS = 65536  # of a multiprocessor


def array(kind: str, address: int = 256, contiguous: bool = True) -> Any:
    return SimpleNamespace(
        dtype=ARRAYS[kind], data=SimpleNamespace(ptr=address), flags=SimpleNamespace(c_contiguous=contiguous)
    )


def arguments_of(kernel: CompiledKernel) -> dict[str, Any]:
    return {
        name: 2 if kind in SCALARS else array(kind, 4096 * (i + 1))
        for i, (name, kind) in enumerate(kernel.parameters) if name != SCRATCH
    }  # fmt: skip


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_archives_are_compiled_from_the_source(architecture: int) -> None:
    sources = ("kmeans/lloyd.py", "tsne/placement.py")
    source = b"".join((FOLDER.parent / name).read_bytes() for name in sources)
    _, description = read_archive(FOLDER / f"sm{architecture}.tar.xz")
    assert description["source"] == hashlib.sha256(source).hexdigest(), "`make kernels` compiles them again"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_cubin_takes_what_is_packed(architecture: int) -> None:
    for kernel in read_kernels(architecture):
        packed = pack_arguments(kernel.parameters, arguments_of(kernel))
        layout = read_parameters(kernel.cubin, kernel.entry)
        assert [value.itemsize for value in packed] == [size for _, size in layout]
        names = [name for name, _ in kernel.parameters]
        assert packed[names.index("Counts")] == 4096 * (names.index("Counts") + 1)
        numbers = ("n_landmarks", "width") if kernel.entry.endswith("landmarks") else ("first_row", "n_clusters")
        assert [type(packed[names.index(name)]) for name in numbers] == [np.int64, np.int32]
        assert names[-2:] == [SCRATCH, SCRATCH]
        assert read_block_size(kernel.cubin, kernel.entry) == (kernel.threads, 1, 1)
        assert packed[-2:] == (0, 0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_multiprocessor_has_room_for_every_kernel(architecture: int) -> None:
    _, description = read_archive(FOLDER / f"sm{architecture}.tar.xz")
    for kernel in description["kernels"]:
        assert kernel["shared_bytes"] <= SHARED_BYTES[architecture]
        assert kernel["registers"] * kernel["threads"] <= REGISTERS
        assert kernel["stack_bytes"] == 0


@pytest.mark.parametrize("n_clusters", [1, 20, 33, 10_000])
@pytest.mark.parametrize("weighted", [False, True])
def test_there_is_a_kernel_for_every_number_of_features(n_clusters: int, weighted: bool) -> None:
    device = fused_pass.FusedDevice(np, read_kernels(90), lambda *_: None, 1)
    for n_features in range(1, fused_pass.MAX_FEATURES + 1):
        tiles = fused_pass.choose_tiles(n_features, n_clusters)
        assert tiles.features * tiles.feature_blocks >= n_features
        sizes = dict(zip(("ROWS", "CENTERS", "FEATURES", "FEATURE_BLOCKS"), tiles, strict=True))
        assert (
            fused_pass.find_kernel(device, "label_rows", sizes | {"WEIGHTED": weighted}).constants["WEIGHTED"]
            is weighted
        )
    with pytest.raises(KeyError, match="'FEATURE_BLOCKS': 64"):
        fused_pass.find_kernel(device, "label_rows", {"FEATURE_BLOCKS": 64})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": array("*fp32", 264)}, "X is not an array of float32 in one piece that begins at a multiple of 16 bytes"),
        ({"X": array("*fp32", contiguous=False)}, "X is not an array of float32"),
        ({"X": array("*fp64")}, "X is not an array of float32"),
        ({"x": array("*fp32")}, "has no arguments, or lacks arguments: x"),
    ],
)
def test_arguments_that_the_kernel_was_not_compiled_for_are_refused(changes: dict[str, Any], message: str) -> None:
    kernel = read_kernels(80)[0]
    with pytest.raises(ValueError, match=message):
        pack_arguments(kernel.parameters, arguments_of(kernel) | changes)


def test_a_number_that_does_not_fit_is_refused() -> None:
    kernel = read_kernels(80)[0]
    assert pack_arguments(kernel.parameters, arguments_of(kernel) | {"first_row": 1 << 40})
    with pytest.raises(OverflowError):
        pack_arguments(kernel.parameters, arguments_of(kernel) | {"n_clusters": 1 << 31})


def test_kernels_run_on_the_architecture_they_were_compiled_for() -> None:
    known = {(8, 0): 80, (8, 6): 80, (8, 9): 80, (9, 0): 90, (10, 0): 100, (12, 0): 120}
    unknown = dict.fromkeys([(7, 5), (10, 3), (11, 0), (12, 1)])
    assert {capability: architecture_of(capability) for capability in known | unknown} == known | unknown

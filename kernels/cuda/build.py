"""Compile the Triton kernels offline, one cubin for each architecture and tile size: no GPU is needed for that.

    python -m engine.kernels.cuda.build FOLDER [ARCHITECTURE ...]
      ->  FOLDER/smNN.tar.xz: cubins, and in kernels.json how each is launched, and what it takes of a multiprocessor

launch.py reads these archives; those that are committed are in cubins/, and `make kernels` writes them again. The same
sources give the same PTX, and the same bytes of cubins, but for 10.0: its assembler takes other registers at each
start. Names and types of parameters are read from what Triton made of a kernel, not from the tables here. The
instructions of a cubin are read by cuobjdump, which Triton's wheel brings.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler import compile as compile_source

from engine.kernels.cuda.kmeans import lloyd
from engine.kernels.cuda.launch import ALIGNMENT, ARCHITECTURES, DESCRIPTION, SCRATCH
from engine.kernels.cuda.tsne import placement

TENSOR_CORES = {80: "HMMA", 90: "HGMMA", 100: "UTCHMMA", 120: "HMMA"}  # the instruction of matrix products of each
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
WARP = 32  # threads
IN_PTX = {"i32": "u32", "i64": "u64", "fp32": "f32", "fp64": "f64"}  # types of parameters; pointers are u64

POINTERS = {
    "label_rows": {
        "X": "fp32", "Weights": "fp64", "High": "bf16", "Low": "bf16", "Offsets": "fp32", "Blurs": "fp32",
        "Shift": "fp64", "FrameShift": "fp32", "Scale": "fp64", "Labels": "i32", "Sums": "i64", "Masses": "i64",
        "Open": "i32", "Changed": "i32", "Counts": "i64",
    },
    "refine_rows": {
        "X": "fp32", "Weights": "fp64", "Centers": "fp32", "Shift": "fp64", "Scale": "fp64", "Labels": "i32",
        "Sums": "i64", "Masses": "i64", "Open": "i32", "Changed": "i32", "Counts": "i64",
    },
    "screen_landmarks": {
        "X": "fp32", "Order": "i64", "Begins": "i64", "Ends": "i64", "Homes": "i64", "Around": "i64", "High": "bf16",
        "Low": "bf16", "Offsets": "fp32", "Blurs": "fp32", "FrameShift": "fp32", "Candidates": "i32", "Counts": "i32",
    },
    "rank_landmarks": {
        "X": "fp32", "Order": "i64", "Begins": "i64", "Ends": "i64", "Homes": "i64", "Around": "i64",
        "Landmarks": "fp32", "Candidates": "i32", "Counts": "i32", "Neighbors": "i64", "Squared": "fp64",
    },
}  # fmt: skip
SCALARS = {
    "label_rows": {
        "first_row": "i64", "n_rows": "i64", "n_clusters": "i32", "n_features": "i32", "factor": "fp32",
        "per_row": "fp32", "floor": "fp32", "mass_scale": "fp64", "n_copies": "i32",
    },
    "refine_rows": {
        "first_row": "i64", "n_clusters": "i32", "n_features": "i32", "n_centers_padded": "i32", "mass_scale": "fp64",
        "n_copies": "i32",
    },
    "screen_landmarks": {
        "width": "i32", "n_landmarks": "i64", "n_features": "i32", "k": "i32", "factor": "fp32", "per_row": "fp32",
        "floor": "fp32", "largest": "fp32",
    },
    "rank_landmarks": {
        "width": "i32", "n_landmarks": "i64", "n_features": "i32", "k": "i32", "tile_rows": "i32",
    },
}  # fmt: skip
SOURCES = {"label_rows": lloyd, "refine_rows": lloyd, "screen_landmarks": placement, "rank_landmarks": placement}


class Configuration(NamedTuple):
    """A kernel, the sizes of its tiles, and the threads of a program."""

    kernel: str
    constants: dict[str, Any]
    n_warps: int

    @property
    def name(self) -> str:
        """The name of the cubin's file, without the architecture."""
        sizes = "_".join(f"{name.lower()}{int(value)}" for name, value in self.constants.items() if name != "WIDEN")
        return f"{self.kernel}_{sizes}"


def configurations() -> Iterator[Configuration]:
    """Yield what is compiled: up to 128 features in one block, up to 1,024 in blocks of 32; few centers, or many.

    Tiles are the largest whose registers do not spill on any of the architectures.
    """
    for weighted in (False, True):
        for features in (16, 32, 64, 128):
            yield label_rows(features, 1, 32, weighted)
        for features in (16, 64):  # with 32, one register spills on compute capability 12.0
            yield label_rows(features, 1, 64, weighted)
        for n_blocks in (8, 16, 32):
            yield label_rows(32, n_blocks, 32, weighted)
        yield Configuration("refine_rows", {"ROWS": 16, "CENTERS": 16, "WEIGHTED": weighted}, 8)
    for features in (16, 32, 64, 128):
        sizes = {"ROWS": 64, "CENTERS": 64 if features < 64 else 32, "FEATURES": features, "ROOM": 64}
        yield Configuration("screen_landmarks", sizes | {"WIDEN": False}, 8)
    yield Configuration("rank_landmarks", {"ROWS": 16, "CENTERS": 32, "KEPT": 16, "ROOM": 64}, 4)


def label_rows(features: int, n_blocks: int, centers: int, weighted: bool) -> Configuration:
    """Return a configuration of label_rows."""
    sizes = {"ROWS": 64, "CENTERS": centers, "FEATURES": features, "FEATURE_BLOCKS": n_blocks}
    return Configuration("label_rows", sizes | {"WEIGHTED": weighted, "WIDEN": False}, 8 if centers == 64 else 4)


def compile_kernel(configuration: Configuration, architecture: int) -> Any:
    """Compile one kernel; without fused multiply-add, so that every operation is rounded as the definition says."""
    pointers, scalars = POINTERS[configuration.kernel], SCALARS[configuration.kernel]
    signature = {name: f"*{kind}" for name, kind in pointers.items()} | scalars
    signature |= dict.fromkeys(configuration.constants, "constexpr")
    attributes = {(i,): [["tt.divisibility", ALIGNMENT]] for i in range(len(pointers))}
    source = ASTSource(
        getattr(SOURCES[configuration.kernel], configuration.kernel), signature, configuration.constants, attributes
    )
    options = {"num_warps": configuration.n_warps, "num_stages": 2, "enable_fp_fusion": False}
    return compile_source(source, target=GPUTarget("cuda", architecture, WARP), options=options)


def read_parameters(kernel: Any) -> list[tuple[str, str]]:
    """Return names and types of a compiled kernel's parameters, in order; Triton's own pointers are called SCRATCH.

    Names are those of Triton's intermediate code. The types of the PTX have to agree with it.
    """
    (header,) = re.findall(r"tt\.func public @\w+\((.*)\) attributes", kernel.asm["ttir"])
    parameters = [
        (name, ("*" if pointee else "") + re.sub(r"^f(\d+)$", r"fp\1", pointee or scalar))
        for name, pointee, scalar in re.findall(r"%(\w+): (?:!tt\.ptr<(\w+)>|(\w+))", header)
    ]
    in_ptx = re.findall(r"\.param \.(\w+)", re.split(r"\.entry|\)", kernel.asm["ptx"])[1])
    n_own = len(in_ptx) - len(parameters)
    if in_ptx != [IN_PTX.get(kind, "u64") for _, kind in parameters] + n_own * ["u64"]:
        raise ValueError(f"parameters of {kernel.metadata.name}: {parameters}, but {in_ptx} in PTX")
    if kernel.metadata.global_scratch_size or kernel.metadata.profile_scratch_size:
        raise ValueError(f"{kernel.metadata.name} needs scratch memory, which launch.py does not allocate")
    return [*parameters, *(n_own * [(SCRATCH, "*i8")])]


def resources(cubin: Path) -> dict[str, Any]:
    """Return the registers a thread takes, the bytes that spill, and how often tensor cores are used."""
    usage, code = (
        subprocess.run([str(CUOBJDUMP), option, str(cubin)], capture_output=True, text=True, check=True).stdout
        for option in ("-res-usage", "-sass")
    )
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert found is not None, usage
    instructions = re.findall(r"\b(UTCHMMA|HGMMA|HMMA|DFMA|STL|LDL)", code)
    return {
        "registers": int(found[1]),
        "stack_bytes": int(found[2]),
        "instructions": {name: instructions.count(name) for name in sorted(set(instructions))},
    }


def describe(configuration: Configuration, kernel: Any, architecture: int) -> dict[str, Any]:
    """Return how a compiled kernel is launched, and what it takes of a multiprocessor."""
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(kernel.asm["cubin"])
        taken = resources(cubin)
    return {
        "name": f"sm{architecture}_{configuration.name}",
        "entry": kernel.metadata.name,
        "constants": configuration.constants,
        "threads": configuration.n_warps * WARP,
        "shared_bytes": kernel.metadata.shared,
        "parameters": read_parameters(kernel),
        "ptx": hashlib.sha256(kernel.asm["ptx"].encode()).hexdigest(),
        **taken,
    }


def build(folder: Path, architecture: int) -> dict[str, Any]:
    """Write the archive of an architecture; return what its kernels.json says."""
    folder.mkdir(parents=True, exist_ok=True)
    triton.knobs.compilation.disable_line_info = True  # which is two thirds of a cubin
    files, kernels = {}, []
    for configuration in configurations():
        kernel = compile_kernel(configuration, architecture)
        kernels.append(describe(configuration, kernel, architecture))
        files[f"{kernels[-1]['name']}.cubin"] = kernel.asm["cubin"]
    description = {"triton": triton.__version__, "source": hash_source(), "kernels": kernels}
    files[DESCRIPTION] = (json.dumps(description, indent=1) + "\n").encode()
    (folder / f"sm{architecture}.tar.xz").write_bytes(lzma.compress(_tar(files), preset=9))
    return description


def hash_source() -> str:
    """Return a hash of the kernels' source, by which a test tells whether the archives are those of the source."""
    return hashlib.sha256(
        b"".join(Path(str(module.__file__)).read_bytes() for module in (lloyd, placement))
    ).hexdigest()


def _tar(files: dict[str, bytes]) -> bytes:
    """Return an archive whose bytes depend on nothing but the files."""
    written = BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
    return written.getvalue()


if __name__ == "__main__":
    for chosen in tuple(map(int, sys.argv[2:])) or ARCHITECTURES:
        for line in build(Path(sys.argv[1]), chosen)["kernels"]:
            print(
                line["name"], line["registers"], "registers", line["stack_bytes"], "bytes spilled", line["instructions"]
            )

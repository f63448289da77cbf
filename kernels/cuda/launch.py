"""Launch compiled kernels through CuPy: users need neither Triton nor a compiler.

    compute capability  ->  the kernels that were compiled for it;   a kernel, arguments by name  ->  a launch

build.py compiles the kernels of every architecture into one archive of cubins/, with what a launch has to know. Triton
passes arguments in the order of the kernel's parameters, then two pointers of its own, for scratch memory that our
kernels do not use. Every argument is a NumPy scalar of the parameter's size: CuPy copies its bytes to the driver.
"""

from __future__ import annotations

import json
import lzma
import tarfile
import threading
from collections.abc import Mapping
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FOLDER = Path(__file__).with_name("cubins")
DESCRIPTION = "kernels.json"
ARCHITECTURES = (80, 90, 100, 120)  # Ampere, Hopper, Blackwell in data centers, Blackwell in workstations
ALIGNMENT = 16  # bytes: the compiler was told that every array begins at a multiple of it
SCRATCH = "scratch"  # name of Triton's own pointers
STATIC_SHARED_BYTES = 48 << 10  # shared memory that a kernel gets without asking for it
MAX_PROGRAMS = (1 << 31) - 1  # of a launch
# Types of parameters, as Triton names them. bfloat16 numbers are held as their bits.
SCALARS: dict[str, type[np.generic]] = {"i32": np.int32, "i64": np.int64, "fp32": np.float32, "fp64": np.float64}
ARRAYS = {f"*{name}": np.dtype(kind) for name, kind in SCALARS.items()} | {"*bf16": np.dtype(np.uint16)}


class CompiledKernel(NamedTuple):
    """A kernel for one architecture, and how it is launched."""

    name: str  # of its file, which says the sizes of tiles
    entry: str  # the function's name in the cubin
    constants: dict[str, Any]  # sizes of tiles, and whether rows have weights
    threads: int  # of a program
    shared_bytes: int
    parameters: tuple[tuple[str, str], ...]  # name and type of each, in order
    cubin: bytes


def architecture_of(capability: tuple[int, int]) -> int | None:
    """Return the architecture whose kernels run on a compute capability; None if there are none.

    Kernels for 8.0 run on 8.x. The others use instructions of their own architecture, and run on that alone.
    """
    exact = 10 * capability[0] + capability[1]
    found = 80 if capability[0] == 8 else exact
    return found if found in ARCHITECTURES else None


@cache
def read_kernels(architecture: int) -> tuple[CompiledKernel, ...]:
    """Read the kernels of an architecture from their archive."""
    packed = (FOLDER / f"sm{architecture}.tar.xz").read_bytes()
    with tarfile.open(fileobj=BytesIO(lzma.decompress(packed))) as archive:
        contents = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    return tuple(
        CompiledKernel(
            kernel["name"], kernel["entry"], kernel["constants"], kernel["threads"], kernel["shared_bytes"],
            tuple((name, kind) for name, kind in kernel["parameters"]), contents[f"{kernel['name']}.cubin"],
        )
        for kernel in json.loads(contents[DESCRIPTION])["kernels"]
    )  # fmt: skip


def pack_arguments(parameters: tuple[tuple[str, str], ...], arguments: Mapping[str, Any]) -> tuple[np.generic, ...]:
    """Return a NumPy scalar for every parameter; arrays stand for their addresses.

    Raises
    ------
    ValueError
        If the names, the type of an array, its alignment or its layout are not what the kernel was compiled for.
    OverflowError
        If an integer does not fit.
    """
    names = {name for name, _ in parameters if name != SCRATCH}
    if names != set(arguments):
        raise ValueError(f"the kernel has no arguments, or lacks arguments: {', '.join(names ^ set(arguments))}")
    return tuple(_pack_argument(name, kind, arguments.get(name)) for name, kind in parameters)


def _pack_argument(name: str, kind: str, value: Any) -> np.generic:
    if name == SCRATCH:
        return np.uint64(0)
    if kind in SCALARS:
        return SCALARS[kind](value)
    address = int(value.data.ptr)
    if value.dtype != ARRAYS[kind] or address % ALIGNMENT or not value.flags.c_contiguous:
        raise ValueError(
            f"{name} is not an array of {ARRAYS[kind]} in one piece that begins at a multiple of {ALIGNMENT} bytes"
        )
    return np.uint64(address)


class Launcher:
    """Kernels that are loaded on the current device of this process, each at its first launch."""

    def __init__(self, cuda: Any) -> None:
        """Launch through `cuda`: cupy.cuda."""
        self._cuda, self._functions, self._loading = cuda, dict[str, Any](), threading.Lock()

    def launch(self, kernel: CompiledKernel, n_programs: int, arguments: Mapping[str, Any]) -> None:
        """Queue a launch of so many programs on the current stream; the arrays have to outlive it there."""
        if not 0 < n_programs <= MAX_PROGRAMS:
            raise ValueError(f"a launch has between 1 and {MAX_PROGRAMS} programs, not {n_programs}")
        packed = pack_arguments(kernel.parameters, arguments)
        self._function(kernel)((n_programs,), (kernel.threads,), packed, kernel.shared_bytes)

    def _function(self, kernel: CompiledKernel) -> Any:
        with self._loading:
            if kernel.name not in self._functions:
                module = self._cuda.Module()
                module.load(kernel.cubin)
                function = module.get_function(kernel.entry)
                if kernel.shared_bytes > STATIC_SHARED_BYTES:
                    driver = self._cuda.driver
                    attribute = driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                    driver.funcSetAttribute(function.ptr, attribute, kernel.shared_bytes)
                self._functions[kernel.name] = function
            return self._functions[kernel.name]

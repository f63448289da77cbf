"""A GPU in Triton's interpreter: launches run the kernels' own source, on arguments as a GPU would find them."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime.interpreter import TensorHandle

from engine.kernels.cuda.launch import SCALARS, CompiledKernel
from tests.gpu.driver import Driver
from tests.kernels.cuda.memory import DeviceModule, checked_memory

MULTIPLYING = {"label_rows", "screen_landmarks"}  # kernels with products of bfloat16 numbers
TYPES = {"fp32": tl.float32, "fp64": tl.float64, "bf16": tl.bfloat16, "i32": tl.int32, "i64": tl.int64}


class InterpretedCuda(Driver):
    """cupy.cuda as launch.py uses it; kernels are those of a module of Triton functions."""

    def __init__(self, kernels: tuple[CompiledKernel, ...], source: ModuleType, memory: DeviceModule) -> None:
        super().__init__(kernels)
        self._source, self._memory = source, memory

    def execute(self, kernel: CompiledKernel, n_programs: int, arguments: dict[str, bytes]) -> None:
        """Run a kernel in the interpreter; arguments are taken in their order, as a GPU does, and not by name."""
        kinds = [kind for _, kind in kernel.parameters][: len(arguments)]
        values = [read_argument(kind, content) for kind, content in zip(kinds, arguments.values(), strict=True)]
        source = getattr(self._source, kernel.entry)
        constants = {name: value for name, value in kernel.constants.items() if name != "WIDEN"}
        if kernel.entry in MULTIPLYING:
            constants["WIDEN"] = True  # the interpreter's products of bfloat16 numbers are wrong
        with checked_memory(self._memory.regions):
            source[(n_programs,)](*values, **constants)


def read_argument(kind: str, content: bytes) -> Any:
    """Return a value of the interpreter, in the type of the parameter: from a number it would choose one by itself."""
    if kind in SCALARS:
        value, known = np.frombuffer(content, SCALARS[kind]), TYPES[kind]
    else:
        value, known = np.frombuffer(content, np.uint64), tl.pointer_type(TYPES[kind[1:]])
    return tl.core.tensor(TensorHandle(value, known), known)

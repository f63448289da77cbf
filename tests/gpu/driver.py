"""The parts of cupy.cuda that load kernels and launch them: a stand-in that checks what it is given.

A launch copies the bytes of its arguments to where the cubin has its parameters, and takes them from there again, as a
GPU does: so a wrong order, size or type shows in the results.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from engine.kernels.cuda.launch import SCRATCH, STATIC_SHARED_BYTES, CompiledKernel
from tests.gpu.contract import bind
from tests.gpu.cubin import read_layout


class Driver:
    """Loads kernels; what they do when they are launched is said by a subclass."""

    def __init__(self, kernels: tuple[CompiledKernel, ...]) -> None:
        self._kernels = {kernel.cubin: kernel for kernel in kernels}
        self._n_functions = 0
        self.launched: list[str] = []
        self.shared_allowed: dict[int, int] = {}
        self.driver = SimpleNamespace(
            CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8, funcSetAttribute=self._set_attribute
        )

    def execute(self, kernel: CompiledKernel, n_programs: int, arguments: dict[str, bytes]) -> None:
        """Do what a kernel does; arguments are as it finds them."""
        raise NotImplementedError

    def Module(self) -> Any:  # noqa: N802
        """Return a module, as CuPy does."""
        module = SimpleNamespace()

        def load(*args: Any) -> None:
            cubin = bind("cupy.cuda.Module.load", *args)["cubin"]
            assert type(cubin) is bytes
            module.kernel = self._kernels[cubin]

        def get_function(*args: Any) -> Any:
            assert bind("cupy.cuda.Module.get_function", *args)["name"] == module.kernel.entry
            self._n_functions += 1
            return Function(self, module.kernel, self._n_functions)

        module.load, module.get_function = load, get_function
        return module

    def _set_attribute(self, *args: Any) -> None:
        arguments = bind("cupy.cuda.driver.funcSetAttribute", *args)
        assert arguments["attribute"] == 8
        self.shared_allowed[arguments["f"]] = arguments["value"]


class Function:
    """A kernel on the device."""

    def __init__(self, driver: Driver, kernel: CompiledKernel, number: int) -> None:
        self._driver, self._kernel, self.ptr = driver, kernel, number

    def __call__(self, grid: Any, block: Any, args: Any, shared_mem: int) -> None:
        kernel = self._kernel
        assert block == (kernel.threads,)
        assert shared_mem == kernel.shared_bytes
        assert shared_mem <= self._driver.shared_allowed.get(self.ptr, STATIC_SHARED_BYTES)
        (n_programs,) = grid
        layout = read_layout(kernel)
        memory = bytearray(max(offset + size for offset, size in layout))
        assert len(args) == len(layout)
        for value, (offset, size) in zip(args, layout, strict=True):
            assert isinstance(value, np.generic), "CuPy makes 8 bytes of a number of Python"
            assert value.itemsize == size, "the driver would copy other bytes behind the argument"
            memory[offset : offset + size] = value.tobytes()
        n_own = sum(name == SCRATCH for name, _ in kernel.parameters)
        arguments = [bytes(memory[offset : offset + size]) for offset, size in layout]
        assert not any(b"".join(arguments[len(arguments) - n_own :])), "scratch memory that there is not"
        names = [name for name, _ in kernel.parameters][: len(layout) - n_own]
        self._driver.execute(kernel, n_programs, dict(zip(names, arguments, strict=False)))
        self._driver.launched.append(kernel.entry)

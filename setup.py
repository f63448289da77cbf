"""Put compiled kernels into the wheel if ROOMS_COMPILED_KERNELS names their folder: `make wheel`, decisions/0036.

Such a wheel is for one Python and one platform. Without that variable the wheel holds sources alone, for any of them.
"""

import os
import shutil
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

KERNELS = os.environ.get("ROOMS_COMPILED_KERNELS")


class BuildWithKernels(build_py):
    """Copy compiled kernels to where engine/kernels/cpu/simd/instruction_sets.py looks for them."""

    def run(self) -> None:
        super().run()
        if KERNELS and not self.editable_mode:
            shutil.copytree(KERNELS, Path(self.build_lib, "engine", "kernels", "cpu", "shipped"), dirs_exist_ok=True)


class PlatformDistribution(Distribution):
    """Machine code makes a wheel specific to a Python and a platform."""

    def has_ext_modules(self) -> bool:
        return bool(KERNELS)


setup(cmdclass={"build_py": BuildWithKernels}, distclass=PlatformDistribution)

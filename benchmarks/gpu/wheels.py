"""Collect the wheels that a GPU machine without a network lacks, the engine's own among them, in a small folder.

    python benchmarks/gpu/wheels.py FOLDER --python 3.12      here
    python -m pip install --no-index --no-deps --target SITE FOLDER/*.whl     there, with SITE on PYTHONPATH

NumPy, SciPy, scikit-learn, numba, pyarrow, CuPy, Triton and torch are expected there; RAPIDS is not among the wheels.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

EXPECTED = (
    "numpy", "scipy", "scikit-learn", "numba", "llvmlite", "pyarrow", "joblib", "cupy-cuda13x", "triton", "torch",
)  # fmt: skip
NAMES = (
    "pydantic", "pydantic-core", "annotated-types", "typing-inspection", "typing-extensions", "typer", "click", "rich",
    "shellingham", "markdown-it-py", "mdurl", "pygments", "plotly", "kneed", "narwhals", "fsspec", "safetensors",
    "threadpoolctl", "psutil", "jinja2", "markupsafe", "pillow", "pyyaml", "packaging", "annotated-doc", "flash-kmeans",
    "tqdm",
)  # fmt: skip
GLIBC = (39, 35, 34, 31, 28, 27, 24, 17)  # minor versions of manylinux platforms, which pip matches one by one
MAX_MIB = 64
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"


def requirements(names: tuple[str, ...]) -> list[str]:
    """Return names with the versions that constraints.txt pins."""
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", CONSTRAINTS.read_text(), re.MULTILINE))
    pinned = {normalize(name): value for name, value in pins.items()}
    return [f"{name}=={pinned[name]}" if name in pinned else name for name in map(normalize, names)]


def normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    parser = argparse.ArgumentParser(description="Collect wheels for a GPU machine without a network.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default="3.12", help="version of Python there")
    parser.add_argument("names", nargs="*", help="further distributions that are missing there")
    chosen = parser.parse_args()
    platforms = ["manylinux2014_x86_64", "manylinux1_x86_64", *(f"manylinux_2_{minor}_x86_64" for minor in GLIBC)]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"),
            *("--implementation", "cp", "--python-version", chosen.python, "--dest", str(chosen.folder)),
            *(option for platform in platforms for option in ("--platform", platform)),
            *requirements((*NAMES, *chosen.names)),
        ],
        check=True,
    )
    own = ["wheel", "--quiet", "--no-deps", "--wheel-dir", str(chosen.folder), str(CONSTRAINTS.parent)]
    subprocess.run([sys.executable, "-m", "pip", *own], check=True)  # with its metadata, which every fit reads
    size = sum(wheel.stat().st_size for wheel in chosen.folder.glob("*.whl")) / 2**20
    print(f"{chosen.folder}: {size:.1f} MiB")
    if size > MAX_MIB:
        raise SystemExit(f"more than {MAX_MIB} MiB: copy it in parts")


if __name__ == "__main__":
    main()

"""The installed package: quick to import, without heavy imports, and complete."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

HEAVY = ("cudf", "cuml", "cupy", "dask", "distributed", "plotly", "numba", "sklearn", "pandas", "pyarrow")
ROOT = Path(__file__).parents[1]


def run_python(code: str, cwd: Path | None = None) -> str:
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=cwd)
    return process.stdout.strip()


def test_importing_engine_loads_nothing_heavy() -> None:
    loaded = run_python("import sys, engine; print(' '.join(sys.modules))").split()
    assert not {name.partition(".")[0] for name in loaded} & set(HEAVY)


def test_importing_the_fit_loads_no_library_of_single_stages() -> None:
    loaded = run_python("import sys, engine.pipeline.fit; print(' '.join(sys.modules))").split()
    assert not {name.partition(".")[0] for name in loaded} & {"sklearn", "plotly", "narwhals", "dask", "distributed"}
    assert not {"scipy.stats", "scipy.linalg"} & set(loaded)


def test_a_job_with_a_map_does_not_import_scikit_learn(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np, pyarrow as pa, engine.pipeline.fit\n"
        "rows = np.random.default_rng(0).normal(size=(400, 3))\n"
        "table = pa.table({name: rows[:, i] for i, name in enumerate('abc')})\n"
        f"run = engine.pipeline.fit.fit(table, n_clusters=3, device='cpu', out={str(tmp_path / 'run')!r},\n"
        "    config=engine.config.FitConfig(skip=('explain', 'report'), map={'max_iter': 250}))\n"
        "print(run.manifest['map']['landmarks'], 'sklearn' in sys.modules)"
    )
    assert run_python(code) == "400 False"


def test_importing_engine_takes_half_a_second_more_than_numpy_at_most() -> None:
    code = "import time, numpy; t = time.perf_counter(); import engine; print(time.perf_counter() - t)"
    assert statistics.median(float(run_python(code)) for _ in range(3)) < 0.5


def test_help_takes_less_than_a_second_of_the_processor() -> None:
    code = (
        "import os, subprocess, sys;"
        "subprocess.run([sys.executable, '-m', 'engine', '--help'], check=True, stdout=subprocess.DEVNULL);"
        "times = os.times(); print(times.children_user + times.children_system)"
    )
    assert statistics.median(float(run_python(code)) for _ in range(3)) < 1.0


def test_every_public_name_is_there() -> None:
    assert run_python("import engine; print(all(getattr(engine, name) for name in engine.__all__))") == "True"


def test_only_the_files_named_here_import_gpu_libraries_or_dask() -> None:
    allowed = {"cudf_reader.py", "gpu.py", "gpu_libraries.py", "gpu_embed.py", "multi_gpu.py"}
    allowed |= {"dask_client.py", "dask_cluster.py", "gpu_process.py"}
    pattern = re.compile(
        r"^\s*(?:import|from)\s+(cudf|pylibcudf|cuml|cupy|cupyx|triton|dask|dask_cuda|distributed)\b", re.MULTILINE
    )
    for folder in ("engine", "kernels"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name not in allowed and not {"arrays", "cuda"} & set(path.parts):
                assert not pattern.search(path.read_text()), path


@pytest.mark.slow
def test_the_wheel_holds_engine_and_its_kernels_and_works_outside_the_checkout(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    wheel = next(tmp_path.glob("*.whl"))
    names = zipfile.ZipFile(wheel).namelist()
    sources = {f"engine/{path.relative_to(ROOT / 'engine')}" for path in (ROOT / "engine").rglob("*.py")}
    sources |= {f"engine/kernels/{path.relative_to(ROOT / 'kernels')}" for path in (ROOT / "kernels").rglob("*.py")}
    sources |= {f"engine/report/templates/{path.name}" for path in (ROOT / "engine/report/templates").iterdir()}
    sources |= {f"engine/kernels/cuda/cubins/{path.name}" for path in (ROOT / "kernels/cuda/cubins").iterdir()}
    assert sources <= set(names)
    assert not [name for name in names if name.startswith(("kernels/", "tests/"))]
    target = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(target)
    code = (
        f"import sys; sys.path.insert(0, {str(target)!r}); sys.meta_path = [f for f in sys.meta_path"
        " if 'editable' not in type(f).__module__ and 'editable' not in getattr(f, '__module__', '')];"
        "import numpy as np, engine; from engine.kernels.cpu.features import column_moments as columns;"
        "engine.KMeans; print(engine.__file__, columns.__file__, columns.compute_moments(np.arange(10.0))[0])"
    )
    engine_file, kernel_file, n_values = run_python(code, cwd=tmp_path).split()
    assert engine_file.startswith(str(target))
    assert kernel_file.startswith(str(target))
    assert n_values == "10"


def test_every_package_folder_is_listed_for_the_wheel() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    below = [p.parent.relative_to(ROOT) for p in (ROOT / "engine").glob("*/**/__init__.py")]
    packages = {".".join(folder.parts) for folder in below}
    packages |= {
        ".".join(["engine", "kernels", *p.parent.relative_to(ROOT / "kernels").parts])
        for p in (ROOT / "kernels").rglob("__init__.py")
    }
    assert {"engine", *packages} == listed

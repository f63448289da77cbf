"""environment.yml, pyproject.toml and the Dockerfiles agree: packages, versions, and the files they are built from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
CONDA_ONLY = {"cuda-version"}  # pip's wheels say their CUDA version in their names


def of_pyproject() -> dict[str, SpecifierSet]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["cuda13"]]
    names = {re.sub(r"-(cu13|cuda13x)$", "", r.name): r.specifier for r in wanted}
    return names | {"python": SpecifierSet(project["requires-python"])}


def of_conda() -> dict[str, SpecifierSet]:
    wanted = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    parsed = [Requirement(text) for text in wanted]
    return {r.name: r.specifier for r in parsed if r.name not in CONDA_ONLY}


def test_conda_and_pip_have_the_same_pins() -> None:
    assert of_conda() == of_pyproject()


@pytest.mark.parametrize("kind", ["", "-dask"])
def test_both_cuda_extras_are_of_the_same_versions(kind: str) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    def pins(name: str) -> dict[str, SpecifierSet]:
        wanted = [Requirement(text) for text in extras[name]]
        return {re.sub(r"-(cu1[23]|cuda1[23]x)$", "", r.name): r.specifier for r in wanted}

    assert pins(f"cuda12{kind}") == pins(f"cuda13{kind}")


def test_workers_on_gpus_and_their_scheduler_may_have_the_dask_that_rapids_wants() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    allowed = {r.name: r.specifier for r in map(Requirement, extras["dask"])}
    assert all("2026.7.1" in allowed[name] for name in ("dask", "distributed"))


def test_every_dependency_has_one_exact_version_in_the_constraints() -> None:
    lines = (ROOT / "constraints.txt").read_text().split()
    pinned = {re.sub(r"[-_.]+", "-", r.name).lower(): r.specifier for r in map(Requirement, lines)}
    for name, allowed in of_pyproject().items():
        if name in {"python", "cudf", "pylibcudf", "cuml", "rmm", "cupy"}:
            continue
        (exact,) = pinned[name]
        assert exact.operator == "=="
        assert exact.version in allowed, name


def test_images_are_built_from_all_that_the_package_is_built_from() -> None:
    """Without setup.py in the build context, an image had no compiled kernels, and nothing said so."""
    lines = (ROOT / ".dockerignore").read_text().split()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {"engine", "kernels", "setup.py", "pyproject.toml", project["readme"], *project["license-files"]}
    needed.add("constraints.txt")  # of the Dockerfile
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == needed
    assert all((ROOT / name).exists() for name in needed)

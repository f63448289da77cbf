"""A pytest plugin that puts our estimators in the place of scikit-learn's, for its own tests.

    cd tests/estimators && python -m pytest -p drop_in --outcomes FILE --pyargs sklearn.decomposition.tests.test_pca
      -> FILE: {name of a test: "passed" | "failed" | "skipped"}

The names are replaced in scikit-learn's packages before its test modules import them. scikit-learn's own functions
that call a class of their own module (`sklearn.cluster.k_means`) are not affected.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

import engine

PACKAGES = {"KMeans": "sklearn.cluster", "PCA": "sklearn.decomposition", "TSNE": "sklearn.manifold"}

_outcomes: dict[str, str] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--outcomes", required=True, type=Path)


def pytest_configure() -> None:
    for name, package in PACKAGES.items():
        setattr(importlib.import_module(package), name, getattr(engine, name))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    name = report.nodeid.split("::", 1)[1]
    if report.when == "call" or report.outcome != "passed":
        _outcomes[name] = report.outcome


def pytest_sessionfinish(session: pytest.Session) -> None:
    session.config.getoption("--outcomes").write_text(json.dumps(_outcomes, indent=1))

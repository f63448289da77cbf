"""What the rows are called, `explain.domain`, is said by every command and in every file: no device is a person."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import engine
from engine.cli import app
from engine.config import FitConfig
from engine.utils.domain_words import DomainWords

PERSONS = re.compile(r"\b(people|persons?|everybody|anybody|nobody)\b", re.IGNORECASE)


def fit_devices(folder: Path, name: str, seed: int, previous: Path | None) -> Path:
    """Fit devices of three kinds; in the second night a fifth of them is of another kind, and some are new."""
    rng = np.random.default_rng(seed)
    n_rows = 900 + 30 * seed
    kind = np.arange(n_rows) % 3
    kind = np.where(rng.random(n_rows) < 0.2 * seed, (kind + 1) % 3, kind)
    table = pa.table(
        {
            "device": np.arange(n_rows),
            "uptime": 10.0 + 30 * kind + rng.random(n_rows),
            "errors": (kind == 1) * 40 + rng.integers(0, 9, n_rows),
            "load": 5.0 * (kind == 2) + rng.random(n_rows),
            "firmware": np.where(rng.random(n_rows) < 0.8, np.array(["v1", "v2", "v3"])[kind], "v1"),
        }
    )
    pq.write_table(table, folder / f"{name}.parquet")
    settings = FitConfig.merge(
        {}, id="device", kmeans={"n_clusters": 3}, explain={"domain": "devices"},
        map={"n_landmarks": 300, "max_iter": 250},
        previous=None if previous is None else str(previous),
    )  # fmt: skip
    return engine.fit(folder / f"{name}.parquet", out=folder / name, config=settings).path


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("devices")
    first = fit_devices(folder, "monday", 0, None)
    return first, fit_devices(folder, "tuesday", 1, first)


@pytest.mark.parametrize("command", ["history", "compare", "why", "similar", "show"])
def test_no_command_calls_a_device_a_person(nights: tuple[Path, Path], command: str) -> None:
    first, second = map(str, nights)
    arguments = {"compare": [first, second], "why": [second, "5"], "similar": [second, "5"]}.get(command, [second])
    result = CliRunner().invoke(app, [command, *arguments])
    assert result.exit_code == 0, result.output
    assert PERSONS.search(result.stdout) is None, result.stdout
    if command in ("history", "compare", "why", "show"):
        assert "devices" in result.stdout


@pytest.mark.parametrize("name", ["personas.md", "gate.json", "report.html", "rules.sql"])
def test_no_file_calls_a_device_a_person(nights: tuple[Path, Path], name: str) -> None:
    text = (nights[1] / name).read_text(encoding="utf-8")
    if name == "report.html":
        text = re.sub(r"<style.*?</style>|<script.*?</script>", "", text, flags=re.DOTALL)
        text += re.sub(
            r'"everybody":', "", (nights[1] / name).read_text().split('id="contents">')[1].split("</script>")[0]
        )
        text = re.sub(r"<[^>]+>", " ", text)
    found = PERSONS.search(text)
    assert found is None, text[max(0, found.start() - 100) : found.end() + 100]


def test_the_summary_and_the_picture_in_a_notebook_say_devices(nights: tuple[Path, Path]) -> None:
    html = engine.Run(nights[1])._repr_html_()
    assert PERSONS.search(html) is None
    assert "930 devices" in html


@pytest.mark.parametrize(
    ("plural", "words"),
    [
        ("people", ("person", "everybody", "nobody", "hardly anybody")),
        ("customers", ("customer", "everybody", "nobody", "hardly anybody")),
        ("households", ("household", "all households", "no household", "hardly any household")),
        ("companies", ("company", "all companies", "no company", "hardly any company")),
    ],
)
def test_words_follow_from_the_plural(plural: str, words: tuple[str, ...]) -> None:
    found = DomainWords.of(plural)
    assert (found.singular, found.everybody, found.nobody, found.hardly_anybody) == words

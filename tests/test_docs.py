"""The documentation: links lead somewhere, every page can be reached, and the README stays short."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import run_docs
from tests.run_docs import CodeBlock, blocks_of, pages

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "decisions").glob("*.md")),
]
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
PATH = re.compile(r"`((?:engine|kernels|tests|benchmarks|docs|examples|decisions)/[^`<>*… ]+)`")
STATUS = re.compile(r"^Status: (accepted|superseded by \[\d{4}\]\([\w-]+\.md\).*)$", re.MULTILINE)


def anchors_of(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = HEADING.findall(FENCED.sub("", text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links_of(page: Path) -> Iterator[tuple[str, Path, str]]:
    """Yield the relative links of a page: as written, the file or folder they lead to, and their anchor."""
    for link in LINK.findall(FENCED.sub("", page.read_text())):
        if not re.match(r"[a-z]+:", link):
            path, _, anchor = link.partition("#")
            yield link, (page.parent / path).resolve() if path else page, anchor


def broken_links(page: Path) -> list[str]:
    """Return the relative links of a page that lead to no file, or to no heading of one."""
    return [
        link
        for link, target, anchor in links_of(page)
        if not target.exists() or (anchor and anchor not in anchors_of(target.read_text()))
    ]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    assert broken_links(page) == []


def test_a_link_to_a_missing_file_or_heading_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One & two – three\n[a](#one--two--three) [b](#four) [c](page.md) [d](gone.md) [e](https://example.org/x)\n"
        "```bash\n# four\n```\n![f](gone.png)\n"
    )
    assert broken_links(page) == ["#four", "gone.md", "gone.png"]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_path_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    if "Status: superseded" in text or page.name == "CHANGELOG.md":
        pytest.skip("it tells of what was")
    assert [path for path in PATH.findall(text) if not (ROOT / path).exists()] == []


def test_every_page_of_docs_is_linked_from_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    assert {target for _, target, _ in links_of(index)} >= set((ROOT / "docs").glob("*.md")) - {index}


def test_the_readme_is_short_and_shows_the_report_first() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 110
    assert any("docs/report.png" in line for line in lines[:10])


@pytest.mark.parametrize("page", sorted((ROOT / "decisions").glob("*.md")), ids=name)
def test_every_decision_says_whether_it_still_holds(page: Path) -> None:
    assert len(STATUS.findall(page.read_text())) == 1


def test_notebooks_are_kept_without_outputs() -> None:
    for path in (ROOT / "examples").glob("*.ipynb"):
        notebook = json.loads(path.read_text())
        assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
        ids = [cell["id"] for cell in notebook["cells"]]
        assert len(set(ids)) == len(ids)
        for cell in notebook["cells"]:
            assert cell["cell_type"] == "markdown" or (cell["outputs"], cell["execution_count"]) == ([], None)


def test_blocks_are_found_with_their_lines_and_others_are_left() -> None:
    text = "# A\n```bash\nrooms doctor\n```\n```yaml\na: 1\n```\n\n```python\nprint(1)\n\nprint(2)\n```\n    ```bash\n"
    assert list(blocks_of("docs/a.md", text)) == [
        CodeBlock("docs/a.md", 2, "bash", "rooms doctor\n"),
        CodeBlock("docs/a.md", 9, "python", "print(1)\n\nprint(2)\n"),
    ]


def test_the_code_cells_of_a_notebook_are_one_block() -> None:
    cells = [("code", ["a = 1\n", "b = 2"]), ("markdown", ["# no code"]), ("code", ["print(a)"])]
    text = json.dumps({"cells": [{"cell_type": kind, "source": source} for kind, source in cells]})
    assert list(blocks_of("n.ipynb", text)) == [CodeBlock("n.ipynb", 1, "python", "a = 1\nb = 2\nprint(a)\n")]


def test_blocks_that_set_up_a_machine_or_lack_their_tables_are_skipped_with_a_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert CodeBlock("a.md", 1, "bash", "cd x\nmake demo\n").reason_to_skip() == "it sets up a machine"
    real = CodeBlock("a.md", 1, "bash", "rooms fit $DATA/a.csv --out b\n")
    monkeypatch.setattr("tests.run_docs.DATA", tmp_path)
    assert real.reason_to_skip() is None
    monkeypatch.setattr("tests.run_docs.DATA", tmp_path / "gone")
    assert real.reason_to_skip() == f"the real tables are not at {tmp_path / 'gone'}"
    assert CodeBlock("a.md", 1, "python", "print('DATA')\n").reason_to_skip() is None


def test_what_follows_a_block_whose_tables_are_absent_is_skipped_on_its_page_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = "```bash\necho before\n```\n\n```bash\ncat $DATA/a.csv > b.csv\n```\n\n```bash\ncat b.csv\n```\n"
    (tmp_path / "docs").mkdir()
    (tmp_path / "examples").mkdir()
    (tmp_path / "README.md").write_text("```bash\ntrue\n```\n")
    (tmp_path / "docs/a.md").write_text(page)
    (tmp_path / "docs/b.md").write_text("```bash\necho after\n```\n")
    monkeypatch.setattr("tests.run_docs.ROOT", tmp_path)
    monkeypatch.setattr("tests.run_docs.DATA", tmp_path / "gone")
    monkeypatch.setattr("sys.argv", ["run_docs.py"])
    assert run_docs.main() == 0
    assert "3 passed, 0 failed, 2 skipped" in capsys.readouterr().out


def test_a_single_page_is_run_after_the_readme() -> None:
    assert pages("memory") == ["README.md", "docs/memory.md"]
    assert pages("README") == ["README.md"]
    assert pages(None)[0] == "README.md"
    assert {"docs/memory.md", "docs/ratings.md", "examples/notebook.ipynb"} <= set(pages(None))
    with pytest.raises(SystemExit, match="no page 'gone'"):
        pages("gone")


def test_a_version_of_the_changelog_has_a_heading_of_each_kind_once() -> None:
    for version in re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[1:]:
        headings = re.findall(r"^### (.+)$", version, re.MULTILINE)
        assert sorted(headings) == sorted(set(headings)), version.split("\n", 1)[0]

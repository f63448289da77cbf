"""Each kind of check of clusters."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.config import GateConfig
from engine.gate.clusters import ClusterFacts, compare_clusters
from engine.gate.columns import ColumnChange
from engine.gate.findings import Finding
from engine.gate.verdict import Verdict

SAME = ClusterFacts({0: 6100, 1: 3000, 3: 900}, {0: 6120, 1: 2990, 3: 890}, 10_000, 10_000, 9800, 40, 120, 130, ())


def found(facts: ClusterFacts, limits: GateConfig | None = None) -> list[tuple[str, int | None]]:
    return [(finding.check, finding.cluster) for finding in compare_clusters(facts, limits or GateConfig())]


def test_clusters_that_go_on_are_no_finding() -> None:
    assert found(SAME) == []


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (replace(SAME, sizes_now={0: 5300, 1: 3800, 3: 900}), [("size", 0), ("size", 1)]),
        (replace(SAME, sizes_now={0: 6520, 1: 3050, 3: 430}), [("size_ratio", 3)]),
        (replace(SAME, moved=1200), [("moved", None)]),
        (replace(SAME, common=0, moved=0), [("common", None)]),
        (replace(SAME, common=99, moved=0), [("common", None)]),
        (
            replace(SAME, rows_now=5000, sizes_now={0: 3060, 1: 1495, 3: 445}, outliers_now=65, common=4900, moved=20),
            [],
        ),
        (
            replace(SAME, rows_now=150, sizes_now={0: 92, 1: 45, 3: 13}, outliers_now=2, common=140, moved=2),
            [("rows", None)],
        ),
        (
            replace(
                SAME, rows_now=30_000, sizes_now={0: 18_360, 1: 8970, 3: 2670}, outliers_now=390, common=9800, moved=40
            ),
            [("rows", None)],
        ),
        (replace(SAME, outliers_now=500), [("outliers", None)]),
        (replace(SAME, sizes_now={0: 6010, 1: 3000, 4: 990}, died=(3,)), [("deaths", None)]),
    ],
)
def test_each_check_finds_its_own(facts: ClusterFacts, expected: list[tuple[str, int | None]]) -> None:
    assert found(facts) == expected
    off = GateConfig(rows=None, size=None, size_ratio=None, common=None, moved=None, outliers=None, deaths=None)
    assert found(facts, off) == []


def test_sizes_of_a_small_table_may_differ_by_chance() -> None:
    assert found(ClusterFacts({0: 30, 1: 30}, {0: 36, 1: 24}, 60, 60, 50, 3, 1, 3, ())) == []


@pytest.mark.parametrize(
    ("common", "moved", "limit", "expected"),
    [
        (49, 7, 0.1, []),
        (49, 25, 0.1, [("moved", None)]),
        (1000, 110, 0.1, []),
        (1000, 160, 0.1, [("moved", None)]),
        (49, 1, 0.0, [("moved", None)]),
        (49, 0, 0.0, []),
    ],
)
def test_a_handful_may_move_by_chance(common: int, moved: int, limit: float, expected: list) -> None:
    facts = ClusterFacts({0: common}, {0: common}, common, common, common, moved, 0, 0, ())
    assert found(facts, GateConfig(moved=limit)) == expected


def test_the_words_of_a_finding_name_its_cluster_and_both_shares() -> None:
    (finding,) = compare_clusters(replace(SAME, sizes_now={0: 6520, 1: 3050, 3: 430}), GateConfig())
    assert finding.words == "Cluster 3 shrank from 9.0 % to 4.3 % of everybody."
    (finding,) = compare_clusters(replace(SAME, died=(3,)), GateConfig())
    assert finding.words == "Cluster 3 no longer exists."


def test_the_page_shows_names_of_columns_as_they_are() -> None:
    finding = Finding("psi", 1.0, 0.0, "Column '<b>*x*|y' is distributed in another way.", "<b>*x*|y")
    change = ColumnChange("<b>*x*|y", 1.0, 0.5, (0.0, 0.0), findings=(finding,))
    page = Verdict("run", (change,), SAME, (), GateConfig(stop=True)).page()
    assert "# The gate stopped the run: a finding" in page
    assert r"- Column '&lt;b>\*x\*|y' is" in page
    assert r"| &lt;b>\*x\*\|y | 1.000 | 0.500 |" in page

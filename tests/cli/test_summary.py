"""The clusters of a run as lines of text."""

from __future__ import annotations

from engine.cli.summary import format_clusters
from engine.utils.domain_words import DEFAULT_WORDS


def test_clusters_show_the_figure_that_decides_whether_they_are_stable() -> None:
    cluster = {"cluster": 0, "size": 9, "share": 0.5, "silhouette": 0.1, "name": "A", "traits": []}
    rows = [cluster | {"stability": j, "found_again": n} for j, n in ((0.69, 3), (0.599, 11), (None, None))]
    _, stable, unstable, unknown, note = format_clusters(rows, DEFAULT_WORDS).splitlines()
    assert stable.endswith(" 69 %  A")
    assert unstable.endswith(" 59 % !  A")
    assert unknown.split() == ["0", "9", "50", "%", "A"]
    assert note.startswith("! not a stable group: ")
    assert note.endswith("less than 60 % of it is found again on average")

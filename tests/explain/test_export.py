"""Exported texts are escaped, so that texts of a table have no meaning in Markdown or HTML."""

from __future__ import annotations

import pytest

from engine.explain.export import escape_markdown


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("Action & Adventure", "Action & Adventure"),
        ("&lt;b&gt; &#60; <b>", r"&amp;lt;b&amp;gt; &amp;\#60; &lt;b&gt;"),
        ("R&D; *all* a_b `c` [d] |", r"R&amp;D; \*all\* a\_b \`c\` \[d\] \|"),
        ("back\\slash", r"back\\slash"),
    ],
)
def test_characters_with_a_meaning_in_markdown_are_escaped(text: str, markdown: str) -> None:
    assert escape_markdown(text) == markdown

"""What is written for people says what was meant, whatever a table's texts hold."""

from __future__ import annotations

import pytest

from engine.explain.export import _plain


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("Action & Adventure", "Action & Adventure"),
        ("&lt;b&gt; &#60; <b>", r"&amp;lt;b&amp;gt; &amp;\#60; &lt;b&gt;"),
        ("R&D; *all* a_b `c` [d] |", r"R&amp;D; \*all\* a\_b \`c\` \[d\] \|"),
        ("back\\slash", r"back\\slash"),
    ],
)
def test_markdown_takes_nothing_of_a_text_for_its_own(text: str, markdown: str) -> None:
    assert _plain(text) == markdown

"""Tables of HTML for notebooks: a title, a line of facts, and rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from engine.utils.formatting import clean


def html_table(title: str, head: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table of HTML; title and head are escaped here, cells have to be HTML already."""
    heads = "".join(f"<th>{name}</th>" for name in columns)
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f"<div><strong>{escape(clean(title))}</strong><p>{escape(head)}</p>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>"
    )

"""Render an HTML table for notebooks: a title, a line of facts, and rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from engine.utils.formatting import printable_text


def html_table(title: str, subtitle: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return an HTML table; title and subtitle are escaped here, cells have to be HTML already."""
    header = "".join(f"<th>{name}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f"<div><strong>{escape(printable_text(title))}</strong><p>{escape(subtitle)}</p>"
        f"<table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>"
    )

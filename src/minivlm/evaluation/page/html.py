"""What the page is made of: cards, panels, keys and tables, as HTML text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

_TAGS = re.compile(r"<[^>]*>")


class Row(NamedTuple):
    """A row of a table: its heading and its cells, all HTML; a cell may be empty."""

    heading: str
    cells: Sequence[str]


def table(
    corner: str, columns: Sequence[str], rows: Sequence[Row], *, caption: str, numbers: bool = True, lang: str = ""
) -> str:
    """A table with headings for rows and columns. On a narrow screen each row becomes a block, its cells labelled.

    `corner`: the heading of the headings; `caption`: what it is, for screen readers.
    """
    kind = ' class="number"' if numbers else ""
    head = "".join(f'<th scope="col"{kind}>{column}</th>' for column in columns)
    lines = []
    for row in rows:
        cells = "".join(
            f'<td{kind} data-label="{escape(_plain(column))}"><div>{cell}</div></td>'
            if cell
            else f"<td{kind}></td>"
            for column, cell in zip(columns, row.cells, strict=True)
        )
        lines.append(f'<tr><th scope="row">{row.heading}</th>{cells}</tr>')
    spoken = f' lang="{lang}"' if lang else ""
    return (
        f'<table{spoken}><caption class="unseen" lang="en">{escape(caption)}</caption>'
        f'<thead><tr><th scope="col">{corner}</th>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
    )


def card(content: str, title: str = "", note: str = "", kind: str = "") -> str:
    """A box with an optional title above and a note below its content; empty without content."""
    if not content:
        return ""
    heading = f"<h3>{escape(title)}</h3>" if title else ""
    below = f'<p class="note">{note}</p>' if note else ""
    return f'<div class="card{f" {kind}" if kind else ""}">{heading}{content}{below}</div>'


def panels(parts: Sequence[str]) -> str:
    """Cards side by side where there is room; empty without any."""
    return f'<div class="panels">{"".join(parts)}</div>' if any(parts) else ""


def key(names: Mapping[str, str]) -> str:
    """The key of a chart: class of the sign → what it stands for."""
    items = "".join(f'<span><i class="{kind}"></i>{escape(name)}</span>' for kind, name in names.items())
    return f'<div class="key">{items}</div>'


def small(text: str) -> str:
    """What stands below a figure in small print; empty without text."""
    return f"<small>{text}</small>" if text else ""


def _plain(html: str) -> str:
    return " ".join(_TAGS.sub(" ", html).split())

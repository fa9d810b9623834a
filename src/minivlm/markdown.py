"""Markdown for forges: tables, and text in them that stays text whatever it holds."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

_MARKUP = str.maketrans({character: f"&#{ord(character)};" for character in "\\|*_`[]~$"})


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """A table of ready cells: so many columns of words, then numbers, to the right; empty without rows."""
    align = ["---"] * left + ["---:"] * (len(header) - left)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (header, align, *rows)) if rows else ""


def cell(text: str) -> str:
    """Text for a cell, or for an attribute of HTML: on one line, and never read as markup."""
    return inert(escape(text))


def inert(html: str) -> str:
    """HTML for a cell: on one line, its characters without a meaning in Markdown."""
    return " ".join(html.split()).translate(_MARKUP)


def image(path: str, title: str, width: int) -> str:
    """The picture at a relative path, for a cell; a name may hold what addresses and HTML may not."""
    return f'<img src="{quote(path)}" alt="{cell(title)}" width="{width}">'

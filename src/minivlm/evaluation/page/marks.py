"""Words of a caption that are wrong about its scene, marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any


def marked(caption: str, mistakes: Sequence[Mapping[str, Any]]) -> str:
    """The caption as HTML, with <mark> around each word that states something wrong."""
    return escape(caption)

"""The words of a caption that say something wrong about its scene, marked.

The parser tells what a text states, not where. So the place is searched for: the shortest stretch of the
caption that by itself states the mistaken value, for example "两只红色的船" for the number of the boats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

from minivlm.data.scenes.world import Truth

Mistake = Mapping[str, Any]
LONGEST = 14  # characters of a stretch: a number, a measure word, a colour and a thing fit


def marked(
    caption: str,
    mistakes: Sequence[Mistake],
    parse: Callable[[str], Truth],
    say: Callable[[Mistake], str] | None = None,
) -> str:
    """The caption as HTML, with <mark> around what is wrong; what is only missing has no place in it.

    A mark's title, which pointing at it shows, is `say` of its mistakes; without `say` it has none.
    """
    wrong: list[tuple[int, ...]] = [() for _ in caption]  # of each character, the mistakes that it is part of
    for number, mistake in enumerate(mistakes):
        if mistake["stated"] is not None:
            for start, end in _places(caption, mistake, parse):
                for place in range(start, end):
                    wrong[place] += (number,)
    parts = []
    for numbers, group in groupby(zip(caption, wrong, strict=True), key=lambda each: each[1]):
        text = escape("".join(character for character, _ in group))
        said = "; ".join(say(mistakes[number]) for number in dict.fromkeys(numbers)) if say else ""
        title = f' title="{escape(said)}"' if said else ""
        parts.append(f"<mark{title}>{text}</mark>" if numbers else text)
    return "".join(parts)


def _places(caption: str, mistake: Mistake, parse: Callable[[str], Truth]) -> list[tuple[int, int]]:
    """All stretches of the smallest length that state the mistaken value; empty when none does by itself."""
    for length in range(1, LONGEST + 1):
        starts = range(len(caption) - length + 1)
        found = [(i, i + length) for i in starts if _states(parse(caption[i : i + length]), mistake)]
        if found:
            return found
    return []


def _states(stated: Truth, mistake: Mistake) -> bool:
    """Whether a stretch states the value of the mistake, a number or colour together with its thing."""
    attribute, value = mistake["attribute"], mistake["stated"]
    if attribute in ("sky", "ground"):
        return bool(getattr(stated, attribute) == value)
    kind = value if attribute == "kind" else mistake.get("of")
    return any(group.kind == kind and getattr(group, attribute) == value for group in stated.groups)

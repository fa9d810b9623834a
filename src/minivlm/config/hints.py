"""An unknown key of params.yaml → what was probably meant: a known key at that place, or one of another place."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from minivlm.config.explain import groups

_MOST = 4  # keys named
_SURE, _LIKELY = 0.8, 0.5  # likeness of two names, as difflib tells it

_Place = tuple[str, ...]  # the parts of a dotted key; `[]` is any place in a list, `*` any name in a mapping


def hint(location: tuple[Any, ...]) -> str:
    """What to say of the unknown key at `location`, its parts as pydantic names them.

    A misspelt name of the same place comes first, unless the name is known, letter by letter, elsewhere.
    """
    *way, last = ("[]" if isinstance(part, int) else str(part) for part in location)
    here, known = [], list(_keys())
    for place in known:
        if _is(place[:-1], tuple(way)) and place[-1] not in here:
            here.append(place[-1])
    named = {place[-1] for place in known}
    near = _nearest(last, here, _SURE)
    if last in named:
        return _asked([*([f"{near!r} here"] if near else []), *_elsewhere(last, known, way)])
    if near:
        return _asked([repr(near)])
    if far := _nearest(last, named, _SURE):
        return _asked(_elsewhere(far, known, way))
    if near := _nearest(last, here, _LIKELY):
        return _asked([repr(near)])
    return f"valid keys: {', '.join(here)}"


def _asked(names: list[str]) -> str:
    """Names as a question, not too many of them."""
    if len(names) > _MOST:
        return f"did you mean {', '.join(names[:_MOST])} ...?"
    return f"did you mean {' or '.join(filter(None, (', '.join(names[:-1]), names[-1])))}?"


def _keys() -> Iterable[_Place]:
    """Every key and every section, by its parts; without the places of lists and the names of mappings."""
    for group in groups():
        place = tuple(group.key.replace("[]", ".[]").split(".")) if group.key else ()
        if place and place[-1] not in ("[]", "*"):
            yield place
        elif place:
            yield place[:-1]
        for parameter in group.parameters:
            yield (*place, parameter.key.rpartition(".")[2])


def _is(place: _Place, way: _Place) -> bool:
    """Whether a place is the one that `way` leads to, of which names in mappings are the file's own."""
    return len(place) == len(way) and all(a in (b, "*") for a, b in zip(place, way, strict=True))


def _nearest(name: str, names: Iterable[str], cutoff: float) -> str | None:
    return next(iter(difflib.get_close_matches(name, sorted(set(names)), n=1, cutoff=cutoff)), None)


def _elsewhere(name: str, known: Iterable[_Place], way: list[str]) -> list[str]:
    """The keys of that name which lie nearest to the place where it was looked for."""
    found = [place for place in known if place[-1] == name]
    most = max(_shared(place, way) for place in found)
    return [_written(place) for place in found if _shared(place, way) == most]


def _written(place: _Place) -> str:
    dotted = ".".join(place).replace(".[]", "[]")
    return repr(dotted) if len(place) > 1 else f"{dotted!r} at the top of the file"


def _shared(place: _Place, way: list[str]) -> int:
    """How many parts two places have in common from the top down."""
    return next((n for n, (a, b) in enumerate(zip(place, way, strict=False)) if a != b), min(len(place), len(way)))

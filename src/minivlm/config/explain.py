"""Every key of params.yaml with its type, range, default and explanation, read from the typed sections."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic_core import PydanticUndefined

from minivlm.config import Params
from minivlm.config.section import Scalar, Section, words_of

REQUIRED = "required"
_KINDS = {int: "whole number", float: "number", str: "text", bool: "true or false"}
_ENDS = ("ge", "gt", "le", "lt")


@dataclass(frozen=True)
class Parameter:
    """One key: `key` is dotted; `[]` in it stands for a place in a list, `*` for any name in a mapping."""

    key: str
    kind: str
    range: str  # empty: any value of the kind
    default: str  # as YAML has it, or REQUIRED
    about: str


@dataclass(frozen=True)
class Group:
    """The keys of one mapping of params.yaml; `key` is empty for the top."""

    key: str
    about: str
    parameters: tuple[Parameter, ...]


def groups(section: type[Section] = Params, key: str = "", about: str = "") -> Iterator[Group]:
    """Each mapping with its own keys, in the order of the file; mappings within it follow."""
    own: list[Parameter] = []
    inner: list[Iterator[Group]] = []
    for name, field in section.model_fields.items():
        dotted = f"{key}.{field.alias or name}".lstrip(".")
        held, place = _held(field.annotation)
        if held is None:
            kind, span = _told(field.annotation, field.metadata)
            own.append(Parameter(dotted, kind, span, _default(field), field.description or ""))
        else:
            inner.append(groups(held, dotted + place, field.description or ""))
    yield Group(key, about or (_first_sentence(section) if key else ""), tuple(own))
    for each in inner:
        yield from each


def parameters() -> dict[str, Parameter]:
    """All keys by their dotted names."""
    return {parameter.key: parameter for group in groups() for parameter in group.parameters}


def _first_sentence(section: type[Section]) -> str:
    return " ".join((section.__doc__ or "").split("\n\n")[0].split())


def _held(annotation: Any) -> tuple[type[Section] | None, str]:
    """The section that a field holds, and whether it does in a list (`[]`) or a mapping (`.*`)."""
    origin = get_origin(annotation)
    place = "[]" if origin is list else ".*" if origin is dict else ""
    for each in (annotation, *get_args(annotation)):
        if isinstance(each, type) and not get_args(each) and issubclass(each, Section):
            return each, place
    return None, ""


def _told(annotation: Any, metadata: list[Any]) -> tuple[str, str]:
    """(kind, range) of a type with its constraints, in words."""
    origin, held = get_origin(annotation), get_args(annotation)
    if annotation is Any and metadata == list(Scalar.__metadata__):
        return "number, text, true or false", ""
    if origin is Annotated:
        inner = [each for one in held[1:] for each in (getattr(one, "metadata", None) or [one])]
        return _told(held[0], [*inner, *metadata])
    if origin is Literal:
        return "one of", " | ".join(map(str, held))
    if origin in (Union, types.UnionType):
        told = [_told(each, metadata) for each in held if each is not type(None)]
        kinds = [span.replace(" |", ",") if kind == "one of" else kind for kind, span in told[:-1]]
        kinds.append(told[-1][0])
        return " or ".join([*kinds, *(["null"] if type(None) in held else [])]), told[-1][1]
    if origin is dict:
        kind, span = _told(held[1], [])
        return f"mapping of names to {kind}", span
    return _KINDS[annotation], _span(metadata, annotation)


def _span(metadata: list[Any], kind: type) -> str:
    ends = {name: getattr(each, name, None) for name in _ENDS for each in metadata if hasattr(each, name)}
    patterns = [each.pattern for each in metadata if getattr(each, "pattern", None)]
    if kind is str:
        return words_of(patterns[0]).removeprefix("text ") if patterns else "not empty" if metadata else ""
    low, high = ends.get("ge", ends.get("gt")), ends.get("le", ends.get("lt"))
    above, below = "above " if "gt" in ends else "", "below " if "lt" in ends else ""
    if low is None or high is None:
        return "" if low is None else f"above {low:,}" if above else f"{low:,} or more"
    return f"{above}{low:,} to {below}{high:,}"


def _default(field: Any) -> str:
    if field.default is PydanticUndefined:
        return REQUIRED
    return json.dumps(field.default, ensure_ascii=False)


def values(section: Section, key: str = "") -> Iterator[tuple[str, Any, bool]]:
    """(dotted key, value, whether params.yaml states it) of everything that is set, in the order of the file."""
    for name, field in type(section).model_fields.items():
        held, stated = getattr(section, name), name in section.model_fields_set
        for dotted, value in _leaves(held, f"{key}.{field.alias or name}".lstrip(".")):
            if isinstance(value, Section):
                yield from ((inner, each, own and stated) for inner, each, own in values(value, dotted))
            else:
                yield dotted, value, stated


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Sections in a list or a mapping one by one; everything else as it is."""
    if isinstance(value, list) and value:
        yield from ((f"{key}[{place}]", each) for place, each in enumerate(value))
    elif isinstance(value, dict) and any(isinstance(each, Section) for each in value.values()):
        yield from ((f"{key}.{name}", each) for name, each in value.items())
    else:
        yield key, value

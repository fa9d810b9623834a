"""Keys whose values may be of several kinds: a fault is told once, with the key alone and all that it may be."""

import re
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from minivlm.config import Params, parse_params
from minivlm.config.explain import parameters
from minivlm.config.section import Section
from minivlm.data.validation.likeness import MOST_BITS
from minivlm.errors import UserError
from minivlm.paths import Paths

BITS = "validate.near_duplicate_bits"


def parts(annotation: Any) -> list[Any]:
    """The kinds of a union; of anything else it alone."""
    if get_origin(annotation) is Annotated:
        return parts(get_args(annotation)[0])
    return list(get_args(annotation)) if get_origin(annotation) in (Union, types.UnionType) else [annotation]


def unions(section: type[Section] = Params, key: str = "") -> Iterator[tuple[str, type[Section], str, list[Any]]]:
    """Every key with more than one kind, dotted as it is explained: its section, its name in it, the kinds."""
    for field_name, field in section.model_fields.items():
        name, kinds = field.alias or field_name, parts(field.annotation)
        dotted = f"{key}.{name}".lstrip(".")
        if len(kinds) > 1:
            yield dotted, section, name, kinds
        for kind in kinds:
            place = {list: "[]", dict: ".*"}.get(get_origin(kind), "")
            for each in (kind, *get_args(kind)):
                if isinstance(each, type) and issubclass(each, Section):
                    yield from unions(each, dotted + place)


UNIONS = {dotted: (section, name, kinds) for dotted, section, name, kinds in unions()}


def test_there_are_such_keys():
    some = {
        BITS,
        "runtime.save_minutes",
        "base.llm.pretrained",
        "base.llm.pretrained.revision",
        "download.hub.sft",
    }
    assert some <= UNIONS.keys()


@pytest.mark.parametrize("value", [[[]], "\0", -1, 8.5, True], ids=repr)
@pytest.mark.parametrize("key", UNIONS)
def test_a_value_of_no_kind_is_told_once_with_the_key_alone(key, value):
    if (key, value) == ("runtime.save_minutes", 8.5):
        pytest.skip("it may have this one")
    section, name, _ = UNIONS[key]
    with pytest.raises(ValidationError) as caught:
        section.model_validate({name: value})
    assert [fault["loc"] for fault in caught.value.errors() if fault["loc"][0] == name] == [(name,)]


@pytest.mark.parametrize("key", sorted(UNIONS.keys() & parameters().keys()))
def test_every_kind_is_explained(key):
    told, kinds = parameters()[key], UNIONS[key][2]
    assert told.kind.endswith(" or null") == (type(None) in kinds)
    choices = {choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)}
    assert choices <= set(re.findall(r"\w+", f"{told.kind} {told.range}"))


def with_bits(value):
    values = YAML(typ="safe", pure=True).load(Paths().params)
    values["validate"]["near_duplicate_bits"] = value
    return values


@pytest.mark.parametrize("value", [MOST_BITS + 1, -1, 8.0, True, "non", [], {}])
def test_bits_that_are_none_of_these_are_one_line_that_names_all_of_them(value):
    with pytest.raises(UserError) as caught:
        parse_params(with_bits(value))
    assert str(caught.value) == f"params.yaml: {BITS} = {value!r}: none, or a whole number from 0 to 11 is needed"


@pytest.mark.parametrize(("value", "bits"), [("none", None), (None, None), (0, 0), (MOST_BITS, MOST_BITS)])
def test_none_null_and_every_number_of_bits_that_the_search_takes_are_bits(value, bits):
    params = parse_params(with_bits(value))
    assert params.validate_.alike_within == bits
    assert params.validate_.near_duplicate_bits == ("none" if bits is None else bits)


def test_the_bits_are_explained():
    one = parameters()[BITS]
    assert (one.kind, one.range) == ("none or whole number", f"0 to {MOST_BITS}")

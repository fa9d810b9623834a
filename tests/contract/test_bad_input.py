"""docs/bad-input.md and docs/serving.md name the limits that the code has."""

import re
from inspect import signature

from minivlm import config
from minivlm.cli import demo, serve, ui
from minivlm.data import texts
from minivlm.data.formats import jsonl
from minivlm.data.validation import picture
from minivlm.generation import opening
from minivlm.ports import HOST
from minivlm.serving import request, server
from minivlm.serving.limits import Limits
from tests.contract.imports import ROOT

SERVED = Limits()
LISTENING = {"ui": ui, "demo": demo, "serve": serve}


def test_the_limits_in_the_documentation_are_those_of_the_code():
    text = (ROOT / "docs" / "bad-input.md").read_text(encoding="utf-8")
    for said in (
        f"larger than {config._LARGEST:,} bytes",
        f"a line over {jsonl._LONGEST_LINE:,} bytes; more than {picture.MAX_PICTURES} pictures",
        f"a line over {texts.LONGEST_LINE:,} bytes, also of a gzipped file",
        f"a file over {picture.MAX_PICTURE_BYTES:,} bytes",
        f"over {opening.LARGEST:,} pixels, or more than {opening.LONGEST} times",
        f"a WEBP, TIFF or progressive JPEG of over {opening.LARGEST_BUFFERED:,} pixels",
        f"(a WEBP, TIFF or progressive JPEG: {opening.LARGEST_BUFFERED:,})",
        f"other formats than {', '.join(picture.FORMATS)};",
        f"a body over {SERVED.body_bytes:,} bytes or {SERVED.body_seconds:g} seconds",
        f"more than {SERVED.pictures} pictures, {SERVED.messages} messages or {SERVED.characters:,} characters",
        f"more than {SERVED.inside} requests at once",
        f"pictures of over {SERVED.pixels:,} pixels together",
        f"an answer ends after {SERVED.seconds:g} seconds",
    ):
        assert said in text, said


def test_the_page_about_using_a_model_names_the_limits_of_the_code():
    text = (ROOT / "docs" / "using.md").read_text(encoding="utf-8")
    for said in (
        f"has over {opening.LARGEST:,} pixels",
        f"Up to {opening.LARGE:,} pixels",
        f"A WEBP, TIFF or progressive JPEG may have {opening.LARGEST_BUFFERED:,} pixels",
    ):
        assert said in text, said


def test_the_addresses_in_the_documentation_are_the_defaults_of_the_commands():
    defaults = {name: signature(module.command).parameters for name, module in LISTENING.items()}
    ports = {name: parameters["port"].default for name, parameters in defaults.items()}
    assert (defaults["serve"]["host"].default, ports["serve"]) == (HOST, None)
    text = (ROOT / "docs" / "bad-input.md").read_text(encoding="utf-8")
    for name, port in (ports | {"serve": server.PORT}).items():
        assert re.search(rf"^\| `minivlm {name}` \|.*\| {HOST}:{port}, or the next free port", text, re.MULTILINE)


def test_the_page_about_serving_names_the_limits_and_fields_of_the_code():
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    *first, last = picture.FORMATS
    for said in (
        f"{SERVED.body_bytes:,} bytes, a JPEG of {SERVED.body_bytes * 3 // 4 >> 20} MiB; "
        f"{SERVED.body_seconds:g} seconds to arrive",
        f"of {', '.join(first)} or {last}; {opening.LARGEST:,} pixels; {opening.LONGEST} times "
        f"as long as wide; a WEBP, TIFF or progressive JPEG has {opening.LARGEST_BUFFERED:,}",
        f"| {SERVED.pictures}, {SERVED.messages}, {SERVED.characters:,} |",
        f"{SERVED.stops} strings of {SERVED.stop_characters} characters",
        f"| {SERVED.seconds:g} seconds |",
        f"| {SERVED.pixels:,} pixels together",
        f"| {SERVED.inside}: one is computed",
        f"| connections | {SERVED.connections} |",
        f"{SERVED.tokens} by default",
        f"have {server._GRACE:g} seconds to end",
        ", ".join(f"`{name}`" for name in request.IGNORED),
        ", ".join(f"`{name}`" for name in request.UNSUPPORTED),
    ):
        assert said in text, said

"""What a tokenizer's directory, or a model's, says about text: tokenizer.json, chat template, names of tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from minivlm.data.chat import CHAT_TEMPLATE, IMAGE_TOKEN
from minivlm.data.strict_json import shown
from minivlm.errors import UserError
from minivlm.files import read_json, sha256_file
from minivlm.token_ids import check_numbers


class AddedToken(NamedTuple):
    """A token of `added_tokens_decoder` in a tokenizer_config.json."""

    number: int
    content: str
    special: bool


class TokenizerFiles(NamedTuple):
    """`content`: of tokenizer.json; `variables`: tokens that a template may name, by name; `name`: for
    messages."""

    name: str
    content: str
    template: str
    variables: dict[str, str]
    image_token: str
    sha256: str


def read_tokenizer(directory: Path) -> TokenizerFiles:
    """Read it; a directory without a chat template gets this project's. UserError where there is no tokenizer."""
    path = directory / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"{path}: not found; run the base stage first: dvc repro base")
    try:
        content = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a tokenizer: not UTF-8 text") from None
    check_numbers(content, str(path))
    config = read_mapping(directory / "tokenizer_config.json")
    processor = read_mapping(directory / "processor_config.json")
    return TokenizerFiles(
        name=str(path),
        content=content,
        template=read_template(directory) or CHAT_TEMPLATE,
        variables=named_tokens(config),
        image_token=processor.get("image_token") or _image_token(config) or IMAGE_TOKEN,
        sha256=sha256_file(path),
    )


def read_template(directory: Path) -> str | None:
    """The chat template that lies in a directory, in any of the places that transformers has had for it.

    UserError for one that is no text.
    """
    path = directory / "chat_template.jinja"
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise UserError(f"{path}: not a chat template: not UTF-8 text") from None
    for name in ("chat_template.json", "tokenizer_config.json"):
        template = read_mapping(directory / name).get("chat_template")
        if isinstance(template, list):  # several, by name
            if not all(isinstance(each, dict) and "name" in each for each in template):
                raise UserError(f"{directory / name}: its chat_template is a list, and not of templates by name")
            template = next((each.get("template") or 0 for each in template if each["name"] == "default"), None)
        if template is not None and not isinstance(template, str):
            raise UserError(f"{directory / name}: its chat_template is neither a text nor texts by name")
        if template:
            return template
    return None


def named_tokens(config: dict[str, Any]) -> dict[str, str]:
    """bos_token, eos_token and their like of a tokenizer_config.json, as texts."""
    found = {}
    for name, token in config.items():
        text = token.get("content") if isinstance(token, dict) else token
        if name.endswith("_token") and isinstance(text, str):
            found[name] = text
    return found


def read_mapping(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no file. UserError for what is none, and for no UTF-8."""
    if not path.is_file():
        return {}
    try:
        value = read_json(path)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UserError(f"{path}: half of a surrogate pair in it, which no text can hold") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path}: not JSON") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a JSON object")
    return value


def added_tokens(directory: Path) -> list[AddedToken]:
    """The tokens that a tokenizer_config.json names by their ids; UserError when one has no id or no text."""
    path = directory / "tokenizer_config.json"
    decoder = read_mapping(path).get("added_tokens_decoder") or {}
    if not isinstance(decoder, dict):
        raise UserError(f"{path}: its added_tokens_decoder is no mapping of ids to tokens")
    found = []
    for number, token in decoder.items():
        content = token.get("content") if isinstance(token, dict) else None
        is_id = number.isascii() and number.isdigit() and len(number) < 9
        if not is_id or not isinstance(content, str) or not content:
            raise UserError(f"{path}: its added_tokens_decoder has no id and token at {shown(number)}")
        found.append(AddedToken(int(number), content, token.get("special") is True))
    return found


def _image_token(config: dict[str, Any]) -> str | None:
    named = config.get("image_token")
    extra = config.get("extra_special_tokens")
    if not named and isinstance(extra, dict):
        named = extra.get("image_token")
    return named.get("content") if isinstance(named, dict) else named

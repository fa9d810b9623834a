"""What a tokenizer's directory, or a model's, says about text: tokenizer.json, chat template, names of tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from minivlm.data.chat import CHAT_TEMPLATE, IMAGE_TOKEN
from minivlm.errors import UserError
from minivlm.files import read_json, sha256_file
from minivlm.token_ids import check_numbers


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
    """The chat template that lies in a directory, in any of the places that transformers has had for it."""
    path = directory / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    for name in ("chat_template.json", "tokenizer_config.json"):
        template = read_mapping(directory / name).get("chat_template")
        if isinstance(template, list):  # several, by name
            template = {each["name"]: each["template"] for each in template}.get("default")
        if template:
            return str(template)
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
    """A JSON object; empty where there is no file. UserError when it is something else."""
    if not path.is_file():
        return {}
    try:
        value = read_json(path)
    except ValueError:
        raise UserError(f"{path}: not JSON") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a JSON object")
    return value


def _image_token(config: dict[str, Any]) -> str | None:
    named = config.get("image_token")
    extra = config.get("extra_special_tokens")
    if not named and isinstance(extra, dict):
        named = extra.get("image_token")
    return named.get("content") if isinstance(named, dict) else named

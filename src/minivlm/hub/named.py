"""What params.yaml names: hub repositories and local files, each with the keys where its pin is written.

Read from the plain YAML, not from the typed configuration: that rejects sources which have no hash yet, and giving
them one is the point.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from minivlm.errors import UserError
from minivlm.hub import choice
from minivlm.hub.choice import Choose
from minivlm.hub.pins import Kind
from minivlm.paths import SPLITS

SECTIONS = ("download", "base")


class NamedRepository(NamedTuple):
    """A mapping with `repo`, which gets `revision` and `files`."""

    key: str  # its place in params.yaml, with dots
    section: Any  # the mapping itself
    repo: str
    revision: str | None  # that stands there: a commit, or the branch or tag that someone wrote in its place
    kind: Kind
    choose: Choose


class NamedPath(NamedTuple):
    """A mapping with a path, which gets its hash under `field`."""

    key: str
    section: Any
    path: str
    field: str


def repositories(params: Any, section: str | None = None) -> Iterator[NamedRepository]:
    """Every hub repository that the section (or both) names, whether it is the chosen source or not."""
    if section in (None, "download"):
        for split in SPLITS:
            key, rows = _mapping(params, "download", "hub", split)
            if rows is not None:
                names = [_text(rows, key, "rows", required=True), _text(rows, key, "images")]
                repo, revision = _text(rows, key, "repo", required=True), _text(rows, key, "revision") or None
                yield NamedRepository(key, rows, repo, revision, "dataset", choice.named(*names))
    if section in (None, "base"):
        for part in ("vision_tower", "llm", "tokenizer"):
            key, source = _mapping(params, "base", part, "pretrained")
            if source is None or not source.get("repo"):
                continue
            checkpoint = _text(source, key, "checkpoint") or None
            known = {"vision_tower": choice.vision_tower, "tokenizer": choice.tokenizer}
            choose = known.get(part) or choice.language_model(checkpoint)
            repo, revision = _text(source, key, "repo"), _text(source, key, "revision") or None
            yield NamedRepository(key, source, repo, revision, "model", choose)


def local_paths(params: Any, section: str | None = None) -> Iterator[NamedPath]:
    """Every local file or folder that the section (or both) names."""
    if section in (None, "download"):
        for split in SPLITS:
            key, rows = _mapping(params, "download", "local", split)
            if rows is not None:
                yield NamedPath(key, rows, _text(rows, key, "path", required=True), "sha256")
                if images := _text(rows, key, "images"):
                    yield NamedPath(key, rows, images, "images_sha256")
    if section in (None, "base"):
        for part in ("vision_tower", "llm", "tokenizer"):
            key, source = _mapping(params, "base", part, "pretrained")
            if source is not None and (path := _text(source, key, "path")):
                yield NamedPath(key, source, path, "sha256")
        texts = (params.get("base") or {}).get("texts") or []
        for number, text in enumerate(texts):
            key = f"base.texts.{number}"
            if not isinstance(text, dict):
                raise UserError(f"params.yaml: {key} must be a mapping with `path`")
            yield NamedPath(key, text, _text(text, key, "path", required=True), "sha256")


def _mapping(params: Any, *keys: str) -> tuple[str, Any]:
    """The key with dots, and the mapping there or None."""
    value = params
    for number, key in enumerate(keys):
        value = value.get(key)
        if value is None:
            break
        if not isinstance(value, dict):
            raise UserError(f"params.yaml: {'.'.join(keys[: number + 1])} must be a mapping")
    return ".".join(keys), value


def _text(section: Any, key: str, field: str, required: bool = False) -> str:
    value = section.get(field)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or not value:
        raise UserError(f"params.yaml: {key}.{field} must be a text, and is {value!r}")
    return value

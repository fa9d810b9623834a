"""Pins into the mappings of a YAML document (ruamel's), with every comment and blank line kept where it was.

ruamel hangs what stands between two sections on the last value of the first. A value that is put behind that one
has to take it over, or the next section's comment ends up in the middle of this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def write_pin(section: Any, key: str, revision: str, files: Mapping[str, tuple[int, str]]) -> list[str]:
    """Set `revision` and `files` of a mapping; returns one line `key: old → new` for each change."""
    from ruamel.yaml.comments import CommentedMap

    tail = _take_tail(section)
    changes = _set(section, key, "revision", revision)
    listed = section.get("files")
    if not isinstance(listed, dict) or not listed:
        listed = section["files"] = CommentedMap()
    for path in [path for path in listed if path not in files]:
        changes.append(f"{key}.files: {path} is no longer pinned")
        del listed[path]
    for path, (size, sha256) in files.items():
        entry = listed.get(path)
        if isinstance(entry, dict) and (entry.get("size"), entry.get("sha256")) == (size, sha256):
            continue
        old = f"{entry.get('size')} bytes, sha256 {entry.get('sha256')}" if isinstance(entry, dict) else "(new)"
        changes.append(f"{key}.files: {path}: {old} → {size} bytes, sha256 {sha256}")
        listed[path] = CommentedMap(size=size, sha256=sha256)
        listed[path].fa.set_flow_style()
    _put_tail(section, tail)
    return changes


def write_hash(section: Any, key: str, field: str, sha256: str) -> list[str]:
    """Set one hash of a mapping; returns the line of the change, if it is one."""
    tail = _take_tail(section)
    changes = _set(section, key, field, sha256)
    _put_tail(section, tail)
    return changes


def _set(section: Any, key: str, field: str, new: str) -> list[str]:
    old = section.get(field)
    if old == new:
        return []
    section[field] = new
    return [f"{key}.{field}: {'(new)' if old is None else old} → {new}"]


def _last(section: Any) -> tuple[Any, Any]:
    """The mapping and key of the last value, at any depth, of a mapping in block style."""
    key = next(reversed(section))
    value = section[key]
    if isinstance(value, dict) and value and not value.fa.flow_style():  # type: ignore[attr-defined]
        return _last(value)
    return section, key


def _take_tail(section: Any) -> str:
    """Remove and return what follows the line of the last value: blank lines, comments."""
    if section.fa.flow_style():
        return ""  # in one line; what follows hangs on the mapping around it
    mapping, key = _last(section)
    comments = mapping.ca.items.get(key)
    if not comments or not comments[2]:
        return ""
    beside, _, below = comments[2].value.partition("\n")
    if beside.strip():
        comments[2].value = f"{beside}\n"
    else:
        comments[2] = None
    return str(below)


def _put_tail(section: Any, tail: str) -> None:
    from ruamel.yaml.error import CommentMark
    from ruamel.yaml.tokens import CommentToken

    if not tail:
        return
    mapping, key = _last(section)
    comments = mapping.ca.items.setdefault(key, [None, None, None, None])
    if comments[2]:
        comments[2].value = f"{comments[2].value.rstrip()}\n{tail}"
    else:
        comments[2] = CommentToken(f"\n{tail}", CommentMark(0), None)

"""The documents as the tests of them see them: links, anchors, code blocks and the commands in these."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.contract.imports import ROOT

READMES = ("README.md", "README.zh-CN.md")
DOCUMENTS = (*READMES, *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md")))
COMMANDS = (
    "make",
    "minivlm",
    "dvc",
    "python",
    "git",
    ".",
)  # what a line has to begin with to be a command of ours

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^(#{1,6}) +(.+?) *$", flags=re.MULTILINE)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def prose(name: str) -> str:
    """The text without code blocks."""
    return _FENCE.sub("", read(name))


def blocks(name: str, *languages: str) -> list[str]:
    """The code blocks of these languages."""
    return blocks_of(read(name), *languages)


def blocks_of(text: str, *languages: str) -> list[str]:
    return [body for language, body in _FENCE.findall(text) if language in languages]


def links(name: str) -> list[str]:
    """Targets of links and pictures, in Markdown and HTML, in their order; not those in code."""
    text = re.sub(r"`[^`\n]*`", "", prose(name))
    return [a or b for a, b in re.findall(rf'{_LINK.pattern}|(?:src|href)="([^"]+)"', text)]


def headings(name: str) -> list[tuple[int, str]]:
    """Level and text of each heading."""
    return [(len(marks), text) for marks, text in _HEADING.findall(prose(name))]


def anchors(name: str) -> set[str]:
    """What a link into the document may name: headings, as GitHub turns them into anchors, and ids."""
    found: set[str] = set(re.findall(r'<a id="([^"]+)">', read(name)))
    for _, text in headings(name):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 1
        while (anchor := slug if number == 1 else f"{slug}-{number - 1}") in found:
            number += 1
        found.add(anchor)
    return found


def command_lines(name: str) -> list[str]:
    """The commands of a document's ```bash blocks."""
    return lines_of(read(name))


def lines_of(text: str) -> list[str]:
    """The commands of ```bash blocks: comments off, `a && b` apart, continued lines joined."""
    lines = []
    for block in blocks_of(text, "bash", "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            bare = re.sub(r"(^|\s+)#.*$", "", line).strip()
            lines += [" ".join(part.split()) for part in bare.split(" && ") if part.strip()]
    return lines


def named_commands(name: str) -> list[str]:
    """Commands within sentences; of those with a place to fill in, such as `python -m pipelines.<stage>`, none."""
    found = re.findall(r"`((?:minivlm|make|dvc|python -m) [^`\n]+)`", prose(name))
    return [line for line in found if not re.search(r"[<>…|]|\.\.\.", line)]


def ours(line: str) -> list[str] | None:
    """The words of a command of this project, without variables before it and redirections; None for others."""
    words = shlex.split(line)
    redirected = (i for i, word in enumerate(words) if re.match(r"\d?[<>|&]", word))
    words = words[: next(redirected, len(words))]
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    return words if words and Path(words[0]).name in COMMANDS else None

"""Which parts of which documents are generated, and from what.

A part lies between two marker lines, `<!-- NAME:begin -->` and `<!-- NAME:end -->`; all else of a document stays
as it is. A figure that is a file of its own is generated whole. A test fails where a document is not current.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from minivlm.errors import UserError

if TYPE_CHECKING:
    from minivlm.paths import Paths

FIGURE = "docs/images/architecture.svg"
Blocks = Mapping[str, Callable[[], str]]


def generated(paths: Paths) -> dict[Path, str]:
    """Every document with generated parts → its text as it should be; nothing is written.

    UserError for a report that is missing and for a document without its markers.
    """
    from minivlm.cli.documents.figure import architecture
    from minivlm.cli.documents.sizes import both_sizes, parts_table, policies_table

    texts = {paths.root / FIGURE: architecture(both_sizes(paths))}
    for name, blocks in results(paths).items():
        texts[paths.root / name] = filled(paths.root / name, blocks)
    sized: dict[str, Blocks] = {
        "docs/architecture.md": {"parts": lambda: parts_table(both_sizes(paths))},
        "docs/training.md": {"policies": lambda: policies_table(both_sizes(paths), paths.reports)},
    }
    return texts | {paths.root / name: filled(paths.root / name, blocks) for name, blocks in sized.items()}


def results(paths: Paths) -> dict[str, Blocks]:
    """The documents that hold figures of the last run, by the reports alone."""
    from minivlm.cli.documents.results import results_block, scores_block
    from minivlm.cli.documents.words import CHINESE, ENGLISH

    return {
        "README.md": {"results": lambda: results_block(paths.reports, ENGLISH)},
        "README.zh-CN.md": {"results": lambda: results_block(paths.reports, CHINESE)},
        "docs/model-card.md": {"scores": lambda: scores_block(paths.reports, ENGLISH)},
    }


def filled(document: Path, blocks: Blocks) -> str:
    """The document's text with each of its blocks as it should be."""
    text = document.read_text(encoding="utf-8")
    for name, block in blocks.items():
        marks = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        text = replace_block(text, block(), document.name, marks)
    return text


def replace_block(text: str, block: str, name: str, marks: tuple[str, str]) -> str:
    """`text` with what stands between the marks replaced by `block`; `name` is the document's.

    UserError when the marks are not there once, in order.
    """
    begin, end = marks
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise UserError(f"{name}: needs one line {begin} and after it one line {end}")
    head, rest = text.split(begin)
    return f"{head}{begin}\n{block}{end}{rest.split(end)[1]}"

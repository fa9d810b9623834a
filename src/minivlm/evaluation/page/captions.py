"""The page's captions as HTML: what each stage's model says of a picture, what is wrong in it marked and named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from minivlm.data.scenes.parse import parse_caption
from minivlm.evaluation.page.figures import STAGES
from minivlm.evaluation.page.html import Row, card, table
from minivlm.evaluation.page.marks import marked

Entry = Mapping[str, Any]
COLUMNS = ("Pretrain_vlm", "SFT_vlm")

CSS = """
.captions td { width: 40%; font-size: 16px; }
.captions th[scope=row] { width: 190px; }
.captions img { display: block; width: 168px; border-radius: 8px; }
.captions figcaption { font-size: 13px; color: var(--soft); margin-top: 4px; }
.captions figure { margin: 0; }
mark { background: var(--wrong); color: var(--wrong-ink); border-radius: 2px;
  text-decoration: underline wavy 1px; text-underline-offset: 4px; }
.verdict { list-style: none; display: flex; flex-wrap: wrap; gap: 4px 6px; margin: 8px 0 0; padding: 0;
  font-size: 12.5px; color: var(--wrong-ink); }
.verdict li { border: 1px solid currentColor; border-radius: 99px; padding: 0 9px; }
.verdict .right { color: var(--good); }
"""


def captions(entries: Sequence[Entry], images: Mapping[str, str]) -> str:
    """The original's table with pictures inside the page; `images` maps a file's name to its data URI.

    For drawn scenes, words that are wrong are marked and what is wrong or missing is listed below the caption.
    """
    rows = []
    for entry in entries:
        title = escape(entry["title"])
        picture = f'<img src="{images[entry["file"]]}" alt="{title}">' if entry["file"] in images else ""
        heading = f"<figure>{picture}<figcaption>{title}</figcaption></figure>"
        rows.append(Row(heading, [_caption(entry[stage]) for stage in STAGES]))
    if not rows:
        return ""
    shown = table("picture", COLUMNS, rows, caption="Captions of both stages", numbers=False, lang="zh-CN")
    return card(shown, kind="captions")


def samples(entries: Sequence[Entry]) -> str:
    """Held-out pictures in words: references beside both captions."""
    if not entries:
        return ""
    rows = []
    for entry in entries:
        references = "<br>".join(escape(text) for text in entry["references"][:5])
        rows.append(Row(escape(entry["picture"]), [references, *(_caption(entry[stage]) for stage in STAGES)]))
    shown = table(
        "row", ("References", *COLUMNS), rows, caption="Held-out pictures in words", numbers=False, lang="zh-CN"
    )
    return f"<details><summary>{len(rows)} held-out pictures in words</summary>{card(shown)}</details>"


def _caption(said: Entry) -> str:
    if "mistakes" not in said:
        return escape(said["caption"])
    text = marked(said["caption"], said["mistakes"], parse_caption, mistake_in_words)
    words = said_in_words(said["mistakes"])
    wrong = "".join(f"<li>✗ {escape(each)}</li>" for each in words)
    verdict = wrong or '<li class="right">✓ all scored facts right</li>'
    return f'{text}<ul class="verdict" lang="en">{verdict}</ul>'


def said_in_words(mistakes: Sequence[Entry]) -> list[str]:
    """The mistakes that are worth saying, in words."""
    return [mistake_in_words(mistake) for mistake in worth_saying(mistakes)]


def worth_saying(mistakes: Sequence[Entry]) -> list[Entry]:
    """A thing that is missing or made up is said once, not again for its number and colour."""
    whole = {
        (m.get("of"), side)
        for m in mistakes
        for side in ("true", "stated")
        if m["attribute"] == "kind" and not m[side]
    }

    def belongs(mistake: Entry) -> bool:
        return any((mistake.get("of"), side) in whole and mistake[side] is None for side in ("true", "stated"))

    return [mistake for mistake in mistakes if mistake["attribute"] == "kind" or not belongs(mistake)]


def mistake_in_words(mistake: Entry) -> str:
    """One mistake: "number of boats: said 2, is 1"; "bird: not mentioned"; "house: not in the picture"."""
    attribute, true, stated = mistake["attribute"], mistake["true"], mistake["stated"]
    if attribute == "kind":
        return f"{true}: not mentioned" if stated is None else f"{stated}: not in the picture"
    of = {"number": " of {}s", "colour": " of the {}"}.get(attribute, "")
    name = attribute + of.format(mistake.get("of"))
    if stated is None:
        return f"{name}: not mentioned, is {true}"
    return f"{name}: said {stated}, made up" if true is None else f"{name}: said {stated}, is {true}"

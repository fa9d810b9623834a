"""The page's overlay: what a word of a caption looked at, as light on a darkened picture.

Each word is a radio button, so that it works by mouse, touch and keyboard, without a script. The overlay is a
small picture, which the browser draws smoothly at full size: darker means less attention.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from minivlm.data.data_uri import data_uri
from minivlm.evaluation.page.html import card, panels

DARKEST = 0.86  # opacity over a patch that gets nothing
WORDS = 24  # that the style sheet knows
SMOOTH = 64  # pixels of an overlay's side
_ON = ",\n".join(
    f".look:has(label:nth-of-type({n}) input:checked) .shade:nth-of-type({n})" for n in range(1, WORDS + 1)
)
CSS = f"""
.look {{ display: grid; grid-template-columns: minmax(0, 200px) minmax(0, 1fr); gap: 4px 18px;
  align-items: start; }}
.look .seen {{ position: relative; overflow: hidden; border-radius: 8px; line-height: 0; }}
.look .seen img {{ width: 100%; height: auto; }}
.look .shade {{ position: absolute; visibility: hidden; box-shadow: 0 0 0 999px rgb(0 0 0 / {DARKEST}); }}
.look .shade i {{ position: absolute; inset: 0; background-size: 100% 100%; }}
.look p {{ font-size: 16px; line-height: 2; margin: 0; }}
.look label {{ cursor: pointer; padding: 3px 4px; border-bottom: 2px solid var(--sft); }}
.look label:has(input:checked) {{ background: var(--sft); color: var(--on-sft); border-radius: 5px 5px 0 0; }}
.look label:has(input:focus-visible) {{ outline: 3px solid var(--ink); outline-offset: 2px; }}
{_ON} {{ visibility: visible; }}
@media (max-width: 480px) {{
  .look {{ grid-template-columns: minmax(0, 1fr); }} .look .seen {{ max-width: 260px; }}
}}
@media print {{ .look .shade {{ print-color-adjust: exact; }} }}
"""


def overlays(report: Mapping[str, Any], images: Mapping[str, str]) -> str:
    """A card for each picture of attention.json that is embedded in the page; empty without any."""
    shown = [
        _picture(number, entry, report["grid"], images[entry["file"]])
        for number, entry in enumerate(report.get("pictures", ()))
        if entry["file"] in images
    ]
    return f'<p class="note">{escape(_about(report))}</p>{panels(shown)}' if shown else ""


def _about(report: Mapping[str, Any]) -> str:
    """What is shown, how far it can be believed, and what it does not mean."""
    layer, layers = report["layer"], report["layers"]
    share = report["picture_share"][layer - 1]
    said = (
        "Choose a word: bright is where the language model looked while it wrote it (SFT; the mean over the heads "
        f"of layer {layer} of {layers}, the one that gives pictures most: {share:.0%} of these words' attention). "
    )
    if pointing := report.get("pointing"):
        hits, chance = pointing["hits"][layer - 1], pointing["chance"]
        said += (
            f"For {pointing['words']:,} words of things in {pointing['pictures']:,} held-out scenes, the patch "
            f"that gets most shows such a thing in {hits:.0%} (by chance {chance:.0%}). "
        )
    return said + (
        "Attention says what was read, not why a word was chosen: the vision tower has already mixed the patches "
        "with each other, and a wrong word can look at the right place."
    )


def _picture(number: int, entry: Mapping[str, Any], grid: Sequence[int], image: str) -> str:
    caption, words = entry["caption"], entry["words"][:WORDS]
    brightest = max(range(len(words)), key=lambda i: max(words[i]["weights"]))
    text, shades, end = [], [], 0
    for i, word in enumerate(words):
        said = caption[word["start"] : word["end"]]
        peak, whole = max(word["weights"]), sum(word["weights"])
        tip = f"{whole:.0%} of its attention goes to the picture, {peak:.0%} to one patch"
        text.append(escape(caption[end : word["start"]]))
        text.append(
            f'<label title="{tip}"><input class="unseen" type="radio" name="look-{number}"'
            f"{' checked' if i == brightest else ''}>{escape(said)}</label>"
        )
        shades.append(_shade(word["weights"], grid, entry["region"]))
        end = word["end"]
    text.append(escape(caption[end:]))
    return card(
        f'<div class="look"><div class="seen"><img src="{image}" alt="{escape(caption)}">{"".join(shades)}</div>'
        f'<p lang="zh-CN" role="radiogroup" aria-label="words of the caption">{"".join(text)}</p></div>'
    )


def _shade(weights: Sequence[float], grid: Sequence[int], region: Sequence[float]) -> str:
    """The darkness over the part of the picture that the tower sees: none where the word looks most."""
    left, top, right, bottom = region
    place = f"left:{left:.2%};top:{top:.2%};width:{right - left:.2%};height:{bottom - top:.2%}"
    return f'<div class="shade" style="{place}"><i style="background-image:url({alpha(weights, grid)})"></i></div>'


def alpha(weights: Sequence[float], grid: Sequence[int]) -> str:
    """A PNG of black pixels as a data URI, some for each patch; opaque as `DARKEST` where a patch gets nothing.

    Between the patches' middles the darkness goes over smoothly: browsers enlarge in straight lines, whose edges
    are seen as a lattice.
    """
    from PIL import Image

    rows, columns = grid
    peak = max(weights) or 1.0
    dark = Image.new("L", (columns, rows))
    dark.putdata([round(255 * DARKEST * (1 - weight / peak)) for weight in weights])
    dark = dark.resize((SMOOTH, SMOOTH), Image.Resampling.BICUBIC)
    dark = dark.point([min(value, round(255 * DARKEST)) for value in range(256)])  # bicubic goes beyond its points
    image = Image.merge("LA", (Image.new("L", dark.size), dark))
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return data_uri(stream.getvalue(), "png")

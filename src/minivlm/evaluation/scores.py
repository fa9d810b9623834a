"""The metric tree of one stage on one held-out split: quality figures, each beside what guessing earns.

Which figures there are follows from the rows: scenes are scored against their truth, other rows by CIDEr-D;
both by BLEU, chrF and the image gap. The keys are a contract (docs/evaluation.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minivlm.data.scenes.parse import parse_caption
from minivlm.evaluation.attributes import score
from minivlm.evaluation.cider import TOKENIZATION, cider
from minivlm.evaluation.exchange import exchange
from minivlm.evaluation.heldout import Heldout
from minivlm.evaluation.image_gap import ImageGap
from minivlm.evaluation.text_scores import bleu, chrf

DIGITS = 6  # written to files; the last bits of a float are no result


def figures(heldout: Heldout, captions: Sequence[str], gap: ImageGap, seed: int) -> dict[str, Any]:
    """All figures of one stage on one split; `captions[i]` describes `heldout.pictures[i]`.

    `shuffled_<name>` is figure <name> with every picture's caption replaced by another picture's: what a model
    earns that writes captions of the right kind without looking.
    """
    order = exchange([picture.sha256 for picture in heldout.pictures], seed)
    own = quality(heldout, captions)
    other = quality(heldout, [captions[i] for i in order])
    tree: dict[str, Any] = {"pictures": len(heldout.pictures), "gap_rows": gap.rows}
    if not heldout.has_truth:
        tree["cider_tokenization"] = TOKENIZATION
    tree |= own | {"image_gap": gap.gap, "loss": gap.loss}
    return (
        tree | {f"shuffled_{name}": value for name, value in other.items()} | {"shuffled_image_gap": gap.shuffled}
    )


def quality(heldout: Heldout, captions: Sequence[str]) -> dict[str, Any]:
    """Figures of captions against truth and references, without the baseline."""
    references = [picture.references for picture in heldout.pictures]
    text = {"bleu": bleu(captions, references), "chrf": chrf(captions, references)}
    if not heldout.has_truth:
        return {"cider": cider(captions, references), **text}
    truths = [picture.truth for picture in heldout.pictures if picture.truth is not None]
    return score(zip(truths, map(parse_caption, captions), strict=True)) | text


def rounded(value: Any) -> Any:
    """The same tree with floats rounded to six digits, so that files do not differ in noise."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return round(value, DIGITS) + 0.0 if isinstance(value, float) else value  # + 0.0: no -0.0


def flattened(tree: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Numbers of a metric tree by dotted path ("sft.heldout.attribute_recall"), for MLflow."""
    flat: dict[str, float] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flattened(value, f"{prefix}{key}.")
        elif isinstance(value, int | float):
            flat[f"{prefix}{key}"] = float(value)
    return flat

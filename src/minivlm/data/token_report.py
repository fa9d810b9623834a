"""What tokenization reports: counts, a histogram of lengths, and rows in which the loss mask can be seen."""

from __future__ import annotations

import html
import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from minivlm.data.chat import IMAGE_TOKEN
from minivlm.data.encoding import ChatEncoder
from minivlm.data.store import TokenStore
from minivlm.data.tokenization import SplitCounts

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_BINS = 40  # of the histogram, up to max_length
_SAMPLES = 3  # rows shown of each split


def split_metrics(store: TokenStore, counts: SplitCounts) -> dict[str, Any]:
    """The figures of one split; lengths are tokens of a row, after truncation."""
    import numpy as np

    lengths = store.lengths
    middle, most = np.percentile(lengths, [50, 95], method="higher")
    return {
        "rows": len(store),
        "tokens": store.meta["tokens"],
        "supervised_tokens": store.meta["supervised_tokens"],
        "truncated_rows": counts.truncated_rows,
        "rejected_rows": counts.rejected_rows,
        "validation_rows": store.meta["validation_rows"],
        "length": {
            "min": int(lengths.min()),
            "median": int(middle),
            "p95": int(most),
            "max": int(lengths.max()),
        },
    }


def lengths_csv(stores: Mapping[str, TokenStore]) -> str:
    """Histogram: `split`, `length` (lower end of the bin, in tokens), `rows`; bins without rows are left out."""
    import numpy as np

    lines = ["split,length,rows"]
    for split, store in stores.items():
        width = max(1, -(-store.meta["max_length"] // _BINS))
        bins, counts = np.unique(store.lengths // width * width, return_counts=True)
        lines += [f"{split},{length},{rows}" for length, rows in zip(bins, counts, strict=True)]
    return "\n".join(lines) + "\n"


def samples_markdown(stores: Mapping[str, TokenStore], encoder: ChatEncoder) -> str:
    """The first rows of each split as the model reads them, what is supervised in bold."""
    parts = [
        "# Token samples",
        "The first rows of each split. **Bold** is what the loss counts; ⏎ is a newline; a picture is written as "
        f"its number of tokens, `{IMAGE_TOKEN}×{next(iter(stores.values())).image_tokens}`.",
    ]
    for split, store in stores.items():
        parts.append(f"## {split}")
        for i in range(min(_SAMPLES, len(store))):
            ids, mask = store.tokens(i), store.mask(i)
            parts.append(f"`{split}:{store.row_numbers[i]}`, {len(ids)} tokens, {mask.sum()} of them supervised")
            parts.append(marked_text(ids, mask, encoder))
    return "\n\n".join(parts) + "\n"


def marked_text(ids: npt.NDArray[np.integer], mask: npt.NDArray[np.bool_], encoder: ChatEncoder) -> str:
    """A row, `ids` and `mask` (T,), as one line of Markdown; special tokens as `code`, typed ones as text."""
    import numpy as np

    special = np.isin(ids, encoder.special_ids)
    # A stretch is text alike in supervision, or a run of one special token.
    kinds = np.where(special, ids.astype(np.int64), -1) * 2 + mask
    edges = [0, *(np.flatnonzero(np.diff(kinds)) + 1).tolist(), len(ids)]
    texts = []
    for first, last in itertools.pairwise(edges):
        if special[first]:
            count = f"×{last - first}" if last - first > 1 else ""
            text = f"`{encoder.decode([int(ids[first])])}{count}`"
        else:
            text = _literal(encoder.decode(ids[first:last].tolist()))
        # HTML, because Markdown's ** does not close between a Chinese full stop and what follows it.
        texts.append(f"<b>{text}</b>" if mask[first] else text)
    return "".join(texts).replace("</b><b>", "")


def _literal(text: str) -> str:
    """Text that Markdown and HTML leave alone, on one line."""
    marks = {ord(character): f"\\{character}" for character in "\\`*_[]"}
    return html.escape(text.translate(marks), quote=False).replace("\n", "⏎")

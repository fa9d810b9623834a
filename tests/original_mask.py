"""The original's loss mask, found by searching a row's ids: the reference that encoding is held against."""

from collections.abc import Sequence


def original_mask(ids: Sequence[int], header: Sequence[int], end: int) -> list[bool]:
    """Which of `ids` are supervised. `header`: ids of `<|im_start|>assistant`; `end`: `<|im_end|>`.

    After each header one token (the newline) is skipped; answer, end and the token after it are supervised;
    an answer that was cut off, up to the last token. As minimind-v's VLMDataset does; its own labels hold this.
    """
    ids, header = list(ids), list(header)
    mask = [False] * len(ids)
    place = 0
    while place < len(ids):
        if ids[place : place + len(header)] != header:
            place += 1
            continue
        start = place + len(header)
        stop = next((i for i in range(start, len(ids)) if ids[i] == end), len(ids))
        for i in range(start + 1, min(stop + 2, len(ids))):
            mask[i] = True
        place = stop + 1
    return mask

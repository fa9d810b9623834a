"""Rows for a probe where there is no token store yet: random words of the expected lengths, drawn pictures."""

from __future__ import annotations

from pathlib import Path

from minivlm.planning.probe import Rows
from minivlm.planning.work import SUPERVISED_SHARE, draw_lengths

_DRAWN = 64  # scenes; further pictures are copies of them with other bytes behind the picture's end


def draw_rows(
    folder: Path, *, mean: float, longest: int, batch_tokens: int, batches: int, image_tokens: int,
    vocabulary: int, size: int, side: int, quality: int, seed: int,
) -> Rows:  # fmt: skip
    """Stores of rows for `batches` micro-batches: one picture each, random words, lengths around `mean`.

    Pictures are drawn scenes of `size` pixels as JPEG, which the tower takes at `side` pixels.
    """
    import numpy as np

    from minivlm.data.pictures import Preparation
    from minivlm.data.scenes.build import TRAINING
    from minivlm.data.scenes.draw import encode, render
    from minivlm.data.scenes.layout import sample_scene
    from minivlm.data.store import PictureStore, TokenStore
    from minivlm.data.store_writer import PictureWriter, TokenWriter

    pictures, tokens = PictureWriter(folder / "pictures"), TokenWriter(folder / "tokens", "uint32")
    random = np.random.default_rng(seed)
    drawn = [encode(render(sample_scene(seed, TRAINING, index), size), quality) for index in range(_DRAWN)]
    longest = min(longest, batch_tokens)
    lengths = draw_lengths(mean, max(8, round(batches * batch_tokens / mean)), image_tokens, longest, seed)
    image, words = vocabulary - 1, range(3, vocabulary - 1)
    for number, length in enumerate(lengths.tolist()):
        ids = random.integers(words.start, words.stop, length)
        ids[1 : 1 + image_tokens] = image
        mask = np.arange(length) >= length - round(SUPERVISED_SHARE * (length - image_tokens))
        # Of a copy the decoder reads as much as of the first one, and the tower sees it anew.
        picture, _ = pictures.add(drawn[number % _DRAWN] + number.to_bytes(4, "big"))
        tokens.add(number, ids, mask, [picture])
    pictures.close()
    meta = {"image_token_id": image, "image_tokens": image_tokens, "pad_token_id": 0}
    tokens.close(np.zeros(len(lengths), dtype=bool), meta)
    return Rows(TokenStore(folder / "tokens"), PictureStore(folder / "pictures"), Preparation(side, side), image)

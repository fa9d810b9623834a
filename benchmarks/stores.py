"""Made rows and pictures for benchmarks: as long as the original's rows, each with a JPEG of its own."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PROMPT_TOKENS = 20  # header, question and the answer's header
DRAWN = 256  # scenes at most; further pictures are copies of them with other bytes behind the picture's end
JPEG_QUALITY = 90
FIRST_WORD = 8  # token ids below are special ones


@dataclass(frozen=True)
class Answers:
    """Supervised tokens of a row: log-normal with this mean and sigma, so that few rows are long."""

    mean: float
    sigma: float

    def draw(self, random: np.random.Generator, rows: int, longest: int) -> npt.NDArray[np.int64]:
        """(rows,), each from 4 to `longest`."""
        import numpy as np

        drawn = random.lognormal(math.log(self.mean) - self.sigma**2 / 2, self.sigma, rows)
        return np.clip(drawn.round(), 4, longest).astype(np.int64)


# With 196 image tokens and the prompt: rows of 250 and of 400 tokens on average, the lengths that the original's
# schedule of 329 PFLOP is counted with.
ANSWERS = {"pretrain": Answers(34, 0.4), "sft": Answers(184, 0.6)}


def write_stores(
    folder: Path,
    rows: int,
    size: tuple[int, int],
    *,
    longest: Mapping[str, int],
    vocabulary: int,
    meta: Mapping[str, Any],
    seed: int = 0,
) -> None:
    """`pictures` and a token store for each stage of `longest`: its tokens at most.

    Row i shows picture i, of `size` pixels (width, height); its tokens mean nothing. `meta`: what a token store
    says of itself, of which `image_tokens` stand in every row.
    """
    import numpy as np

    from minivlm.data.store_writer import PictureWriter, TokenWriter

    drawn, pictures = scenes(size, min(rows, DRAWN), seed), PictureWriter(folder / "pictures")
    for row in range(rows):
        # Of a copy the decoder reads as much as of the first one.
        copy = row // DRAWN
        pictures.add(drawn[row % DRAWN] + (copy.to_bytes(4, "big") if copy else b""))
    pictures.close()
    before, image_tokens = PROMPT_TOKENS // 2, int(meta["image_tokens"])
    for number, stage in enumerate(longest):
        random = np.random.default_rng((seed, number))
        writer = TokenWriter(folder / stage, "uint16")
        asked = image_tokens + PROMPT_TOKENS
        for row, answer in enumerate(ANSWERS[stage].draw(random, rows, longest[stage] - asked)):
            tokens = random.integers(FIRST_WORD, vocabulary, asked + answer)
            tokens[before : before + image_tokens] = meta["image_token_id"]
            writer.add(row, tokens, np.arange(len(tokens)) >= asked, [row])
        writer.close(np.zeros(rows, np.bool_), dict(meta))


def scenes(size: tuple[int, int], count: int, seed: int = 0) -> list[bytes]:
    """Drawn scenes as JPEG files of a size: drawn as squares of the longer side, cut at the lower edge."""
    from minivlm.data.scenes.draw import render
    from minivlm.data.scenes.layout import sample_scene

    files = []
    for number in range(count):
        stream = io.BytesIO()
        image = render(sample_scene(seed, "train", number), max(size)).crop((0, 0, *size))
        image.save(stream, "JPEG", quality=JPEG_QUALITY)
        files.append(stream.getvalue())
    return files

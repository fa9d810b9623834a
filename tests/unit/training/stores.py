"""What a training stage reads, at toy size: a base with its fingerprint, a token store and a picture store."""

import io
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from minivlm.data.store_writer import PictureWriter, TokenWriter
from minivlm.model.fingerprint import write_fingerprint
from minivlm.model.llava import assemble
from tests.unit.model.tiny import IMAGE_ID, IMAGE_TOKENS, picture, rows


def write_inputs(base: Path, into: Path, tokens: Path, pictures: Path) -> None:
    """A copy of `base` at `into`; 24 rows over 6 pictures, of which every sixth row is for validation."""
    shutil.copytree(base, into)
    write_fingerprint(assemble(base, seed=0), into, seed=0)
    writer = PictureWriter(pictures)
    for number in range(6):
        stream = io.BytesIO()
        Image.fromarray(picture(number).permute(1, 2, 0).numpy()).save(stream, "PNG")
        writer.add(stream.getvalue())
    writer.close()
    torch.manual_seed(3)
    token_writer = TokenWriter(tokens, "uint16")
    for number, row in enumerate(rows(24, pictures=6)):
        token_writer.add(number, np.array(row.ids), np.array(row.mask), row.pictures)
    token_writer.close(
        np.arange(24) % 6 == 5,
        {"image_token_id": IMAGE_ID, "image_tokens": IMAGE_TOKENS, "pad_token_id": 0},
    )

"""Small inputs of the tokenize stage: a tokenizer trained here, pictures, Parquet files."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from minivlm.data.chat import SPECIAL_TOKENS
from minivlm.data.tokenization import Source
from minivlm.files import read_json, sha256_file

SIDE, PATCH = 16, 8  # pixels; 4 image tokens
IMAGE_TOKENS = 4
TEXTS = ["夕阳下的大海上有两只红色的帆船。", "请描述这张图片。", "user\n", "assistant\n", "a bird in the sky"]


def write_tokenizer(directory: Path, special: tuple[str, ...] = SPECIAL_TOKENS, regex: bool = True) -> Path:
    """A byte-level BPE tokenizer of some 300 tokens; `regex` False merges across words and lines."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300 + len(special),
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([*TEXTS * 4, *["assistant\n一"] * (0 if regex else 50)], trainer)
    directory.mkdir(parents=True, exist_ok=True)
    bpe.save(str(directory / "tokenizer.json"))
    return directory


def picture(seed: int, size: tuple[int, int] = (20, 16), kind: str = "PNG", mode: str = "RGB") -> bytes:
    """Noise of its own for each seed; `size` is width, height."""
    noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(stream, kind)
    return stream.getvalue()


def conversation(*texts: str, image: str = "<image>\n") -> str:
    """Question, answer, question, answer …; the picture stands before the first question."""
    turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    turns[0]["content"] = image + turns[0]["content"]
    return json.dumps(turns, ensure_ascii=False)


def captions(count: int, first: int = 0) -> list[tuple[str, bytes]]:
    """Rows of growing length, each with a picture of its own, numbered from `first`."""
    return [
        (conversation("请描述这张图片。", "有两只红色的帆船。" * (1 + i % 5)), picture(first + i))
        for i in range(count)
    ]


def write_source(folder: Path, split: str, rows: list[tuple], accepted: list[int] | None = None) -> Source:
    """The Parquet file of a split and its accepted row numbers (None: all), where the stages put them."""
    table = folder / "artifacts" / "download" / f"{split}.parquet"
    chosen = folder / "artifacts" / "validate" / f"{split}.parquet"
    for path in (table, chosen):
        path.parent.mkdir(parents=True, exist_ok=True)
    columns = {
        "conversations": pa.array([row[0] for row in rows], pa.string()),
        "image_bytes": pa.array([row[1] for row in rows]),
    }
    pq.write_table(pa.table(columns), table, row_group_size=7)
    numbers = range(len(rows)) if accepted is None else accepted
    pq.write_table(pa.table({"row": pa.array(numbers, pa.int64())}), chosen)
    return Source(table, chosen)


def with_hash_of(folder: Path, name: str) -> None:
    """Let the fingerprint in `folder` take a file that was changed for the one that was saved."""
    stored = read_json(folder / "fingerprint.json")
    stored["files"][name] = sha256_file(folder / name)
    (folder / "fingerprint.json").write_text(json.dumps(stored) + "\n", encoding="utf-8")


def tree(folder: Path) -> dict[str, bytes]:
    """Relative name -> bytes of every file."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

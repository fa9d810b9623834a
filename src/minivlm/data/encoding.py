"""Conversations -> token ids, with the tokenizer's own file and nothing of transformers.

Text is encoded with special tokens switched off, and the special tokens of the template are put in by id: what
somebody typed, be it `<|im_end|>`, never ends a turn. For all other text the ids are those of the whole rendered
string, because a tokenizer cuts a string at its special tokens before anything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.data.chat import ASSISTANT, BOS_TOKEN, EOS_TOKEN, IMAGE_TOKEN, PAD_TOKEN, SPECIAL_TOKENS
from minivlm.data.chat import loss_mask as _loss_mask
from minivlm.data.chat import segments as _segments
from minivlm.errors import UserError
from minivlm.files import read_json, sha256_file

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class ChatEncoder:
    """A fast tokenizer's directory, with the ids that the template needs."""

    def __init__(self, directory: Path) -> None:
        """UserError when there is no tokenizer, or one that cannot carry the chat template."""
        from tokenizers import Tokenizer

        self.path = directory / "tokenizer.json"
        if not self.path.is_file():
            raise UserError(f"{self.path}: not found; run the base stage first: dvc repro base")
        try:
            self._tokenizer = Tokenizer.from_file(str(self.path))
        except Exception as error:  # the Rust side raises plain Exceptions
            raise UserError(f"{self.path}: not a tokenizer: {' '.join(str(error).split())[:200]}") from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True  # as text, that is
        self._ids = {token: self._special_id(token) for token in SPECIAL_TOKENS}
        self.sha256 = sha256_file(self.path)
        self.header_ids = [self._ids[BOS_TOKEN], *self._text(ASSISTANT)]
        self._check_newline()

    @property
    def vocabulary(self) -> int:
        """Number of ids, special ones included."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    @property
    def pad_token_id(self) -> int:
        return self._ids[PAD_TOKEN]

    @property
    def special_ids(self) -> list[int]:
        return list(self._ids.values())

    @property
    def image_token_id(self) -> int:
        return self._ids[IMAGE_TOKEN]

    def encode(
        self, conversations: Sequence[Sequence[Mapping[str, Any]]], image_tokens: int
    ) -> list[npt.NDArray[np.int64]]:
        """The ids of each conversation, each `<image>` as `image_tokens` ids of it."""
        import numpy as np

        cut = [list(_segments(messages)) for messages in conversations]
        # The same question stands in many rows, and a newline after every turn: each text is encoded once.
        texts = list({part.text: None for parts in cut for part in parts if not part.special})
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        known = {text: encoding.ids for text, encoding in zip(texts, encodings, strict=True)}
        special = {token: [number] for token, number in self._ids.items()}
        special[IMAGE_TOKEN] = [self.image_token_id] * image_tokens
        rows = []
        for parts in cut:
            ids: list[int] = []
            for part in parts:
                ids += special[part.text] if part.special else known[part.text]
            rows.append(np.array(ids, dtype=np.int64))
        return rows

    def encode_plain(self, texts: Sequence[str], framed: bool = True) -> list[npt.NDArray[np.int64]]:
        """The ids of each text without a template; `framed`: between `<|im_start|>` and `<|im_end|>`."""
        import numpy as np

        before, after = ([self._ids[BOS_TOKEN]], [self._ids[EOS_TOKEN]]) if framed else ([], [])
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array([*before, *encoding.ids, *after], dtype=np.int64) for encoding in encodings]

    def mask(self, ids: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
        """Which tokens of a row are supervised."""
        return _loss_mask(ids, self.header_ids, self._ids[EOS_TOKEN])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens written out."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def _text(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _special_id(self, token: str) -> int:
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise UserError(f"{self.path}: no token {token!r}, which the chat template needs")
        if number in self._text(token):
            raise UserError(f"{self.path}: {token!r} is not marked special, so that anybody could type it")
        return int(number)

    def _check_newline(self) -> None:
        """The loss mask skips one token after the header: it has to be the newline alone."""
        newline = self._text("\n")
        for answer in ("一", "a", "1", "《"):
            if self._text(f"{ASSISTANT}\n{answer}") != self.header_ids[1:] + newline + self._text(answer):
                raise UserError(f"{self.path}: merges the newline before an answer with the answer's first letter")
        if len(newline) != 1:
            raise UserError(f"{self.path}: a newline is {len(newline)} tokens; the loss mask counts on one")


def image_token_count(vision_tower: Path) -> int:
    """Tokens of one picture: (image_size / patch_size) squared, by the tower's config.json; UserError without."""
    path = vision_tower / "config.json"
    try:
        config = read_json(path)
        config = config.get("vision_config", config)
        side, rest = divmod(int(config["image_size"]), int(config["patch_size"]))
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run the base stage first: dvc repro base") from None
    except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError):
        raise UserError(f"{path}: no image_size and patch_size in it") from None
    if rest:
        raise UserError(f"{path}: image_size {config['image_size']} is no multiple of {config['patch_size']}")
    return side * side

"""Conversations -> token ids and loss masks, with the tokenizer's own file and its own chat template.

Text is encoded with special tokens switched off, and the special tokens of the template are put in by id: what
somebody typed, be it `<|im_end|>`, never ends a turn. For all other text the ids are those of the whole rendered
string, because a tokenizer cuts a string at its special tokens before anything else; only an answer is encoded by
itself, as it is generated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from minivlm.data.chat import (
    BOS_TOKEN,
    CHAT_TEMPLATE,
    EOS_TOKEN,
    IMAGE_TOKEN,
    PAD_TOKEN,
    ChatTemplate,
    Segment,
)
from minivlm.data.tokenizer_files import TokenizerFiles, read_tokenizer
from minivlm.errors import UserError
from minivlm.files import read_json
from minivlm.look_alike import look_alike

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# Some tokenizers mark the beginning of strings (SentencePiece's "▁"). There an ordinary token stands before text
# that begins none; a copy in memory alone knows it.
_INSIDE = "\ue000inside\ue001"


class Encoded(NamedTuple):
    """A row: token ids (T,) int64 and which of them are supervised (T,)."""

    ids: npt.NDArray[np.int64]
    mask: npt.NDArray[np.bool_]


class ChatEncoder:
    """A fast tokenizer and its chat template, with the ids that the template needs."""

    def __init__(self, directory: Path) -> None:
        """UserError when there is no tokenizer, or one that cannot carry the chat template."""
        self.path = directory / "tokenizer.json"
        self._set_up(read_tokenizer(directory))

    @classmethod
    def of(cls, processor: Any) -> Self:
        """The encoder of a transformers processor: of its tokenizer, chat template and image token."""
        tokenizer = processor.tokenizer
        encoder = cls.__new__(cls)
        encoder._set_up(
            TokenizerFiles(
                name="the model's tokenizer",
                content=tokenizer.backend_tokenizer.to_str(),
                template=processor.chat_template or tokenizer.chat_template or CHAT_TEMPLATE,
                variables={name: str(token) for name, token in tokenizer.special_tokens_map.items()},
                image_token=processor.image_token,
                sha256="",
            )
        )
        return encoder

    def _set_up(self, files: TokenizerFiles) -> None:
        from tokenizers import AddedToken

        self.name, self.sha256 = files.name, files.sha256
        self._tokenizer = self._inside = _read(files)
        added = self._tokenizer.get_added_tokens_decoder()
        self._special = {token.content: number for number, token in added.items() if token.special}
        self._flags = {token.content: token for token in added.values()}
        self.vocabulary = int(self._tokenizer.get_vocab_size(with_added_tokens=True))
        self._typed_image, (self.image_token_id, self._twin) = (
            files.image_token,
            self._image_token(files.image_token),
        )
        if files.template == CHAT_TEMPLATE:
            for token in (BOS_TOKEN, EOS_TOKEN):
                self._special_id(token)
        self.template = ChatTemplate(
            files.template, name=self.name, special=self._special, variables=files.variables
        )
        self.end_token_id = self._special[self.template.end_token()]
        self.pad_token_id = self._special_id(files.variables.get("pad_token", PAD_TOKEN), typed=True)
        if _marks_beginnings(json.loads(files.content)):
            self._inside = _read(files)
            self._inside.add_tokens([AddedToken(_INSIDE, normalized=False, special=False)])

    @property
    def special_ids(self) -> list[int]:
        """All special tokens, in ascending order; those of a tokenizer made here are SPECIAL_TOKENS."""
        return sorted({*self._special.values(), self.image_token_id})

    def id_of(self, token: str) -> int | None:
        """The id of a token."""
        number = self._tokenizer.token_to_id(token)
        return None if number is None else int(number)

    def encode_rows(
        self, conversations: Sequence[Sequence[Mapping[str, Any]]], image_tokens: int
    ) -> list[Encoded]:
        """Ids and loss mask of each conversation, each `<image>` as `image_tokens` ids of it."""
        import numpy as np

        cut = [self._fitted(self.template.segments(messages)) for messages in conversations]
        # The same question stands in many rows, and a newline after every turn: each text is encoded once.
        starts = [(part.text, i == 0) for parts in cut for i, part in enumerate(parts) if not part.special]
        known = self._texts(list(dict.fromkeys(starts)))
        special = {token: [number] for token, number in self._special.items()}
        special[IMAGE_TOKEN] = [self.image_token_id] * image_tokens
        rows = []
        for parts in cut:
            ids: list[int] = []
            mask: list[bool] = []
            for i, part in enumerate(parts):
                some = special[part.text] if part.special else known[part.text, i == 0]
                ids += some
                mask += [part.supervised] * len(some)
            rows.append(Encoded(np.array(ids, dtype=np.int64), np.array(mask, dtype=bool)))
        return rows

    def encode_prompt(
        self, messages: Sequence[Mapping[str, Any]], image_tokens: int
    ) -> tuple[list[int], list[bool]]:
        """(ids up to the answer, which of them are a picture's) of messages that end with a user's turn.

        Whatever a text holds is text, also the very token that pictures are made of: where that one can be typed,
        the second list alone says which is which.
        """
        ids: list[int] = []
        pictures: list[bool] = []
        for part in self._fitted(self.template.segments(messages, add_generation_prompt=True), typed=True):
            picture = part.special and part.text == IMAGE_TOKEN
            if picture:
                some = [self.image_token_id] * image_tokens
            else:
                some = [self._special[part.text]] if part.special else self.text_ids(part.text, not ids)
            ids += some
            pictures += [picture] * len(some)
        return ids, pictures

    def encode_plain(self, texts: Sequence[str], framed: bool = True) -> list[npt.NDArray[np.int64]]:
        """The ids of each text without a template; `framed`: after `<|im_start|>`, where the tokenizer has it,
        and before the token that ends an answer."""
        import numpy as np

        before, after = ([], [self.end_token_id]) if framed else ([], [])
        if framed and BOS_TOKEN in self._special:
            before = [self._special[BOS_TOKEN]]
        known = self._texts([(text, not framed) for text in dict.fromkeys(texts)])
        return [np.array([*before, *known[text, not framed], *after], dtype=np.int64) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens written out."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def _fitted(self, parts: list[Segment], typed: bool = False) -> list[Segment]:
        """Without the white space that tokens like Phi's `<|end|>` swallow, and, unless `typed`, without a typed
        image token."""
        fitted = []
        for i, part in enumerate(parts):
            if not part.special:
                text = part.text if typed else self._safe(part.text)
                if i and self._flag(parts[i - 1], "rstrip"):
                    text = text.lstrip()
                if i + 1 < len(parts) and self._flag(parts[i + 1], "lstrip"):
                    text = text.rstrip()
                if text is not part.text:
                    part = part._replace(text=text)
            fitted.append(part)
        return fitted

    def _flag(self, part: Segment, name: str) -> bool:
        return part.special and part.text in self._flags and bool(getattr(self._flags[part.text], name))

    def _safe(self, text: str) -> str:
        """An image token that can be typed, as the original's '@', gives way to its full-width form '＠'."""
        return text if self._twin is None else text.replace(self._typed_image, self._twin)

    def text_ids(self, text: str, begins: bool) -> list[int]:
        """The ids of text alone; `begins`: nothing stands before it, no special token either."""
        return self._texts([(text, begins)])[text, begins]

    def _text(self, text: str) -> list[int]:
        return self.text_ids(text, True)

    def _texts(self, texts: Sequence[tuple[str, bool]]) -> dict[tuple[str, bool], list[int]]:
        """Ids of texts; a text that does not begin a string is encoded as from within one."""
        marks = self._inside is not self._tokenizer
        within = [(text, begins) for text, begins in texts if marks and not begins and _INSIDE not in text]
        plain = [key for key in texts if key not in set(within)] if within else texts
        encodings = self._tokenizer.encode_batch_fast([text for text, _ in plain], add_special_tokens=False)
        known = {key: list(encoding.ids) for key, encoding in zip(plain, encodings, strict=True)}
        encodings = self._inside.encode_batch_fast(
            [_INSIDE + text for text, _ in within], add_special_tokens=False
        )
        return known | {key: list(encoding.ids[1:]) for key, encoding in zip(within, encodings, strict=True)}

    def _special_id(self, token: str, typed: bool = False) -> int:
        """The id of a token; UserError when it is not there, or (unless `typed`) when text can become it."""
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise UserError(f"{self.name}: no token {token!r}, which the chat template needs")
        if not typed and number in self._tokenizer.encode(token, add_special_tokens=False).ids:
            raise UserError(f"{self.name}: {token!r} is not marked special, so that anybody could type it")
        return int(number)

    def _image_token(self, token: str) -> tuple[int, str | None]:
        """The id of the image token; for an ordinary one, which imported models have, what is written for it."""
        if token == IMAGE_TOKEN or token in self._special:
            return self._special_id(token), None
        ids = self._text(token)
        if len(ids) != 1:
            raise UserError(f"{self.name}: no token {token!r} for pictures")
        return ids[0], look_alike(token, self._text)


def _marks_beginnings(tokenizer: Mapping[str, Any]) -> bool:
    """Whether a tokenizer.json says to put something before a string."""
    steps = json.dumps([tokenizer.get("normalizer"), tokenizer.get("pre_tokenizer")])
    return any(mark in steps for mark in ('"Metaspace"', '"Prepend"', '"add_prefix_space": true'))


def _read(files: TokenizerFiles) -> Any:
    """The tokenizer, for which special tokens in a text are text."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(files.content)
    except Exception as error:  # the Rust side raises plain Exceptions
        raise UserError(f"{files.name}: not a tokenizer: {' '.join(str(error).split())[:200]}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # as text, that is
    return tokenizer


def image_token_count(vision_tower: Path) -> int:
    """Tokens of one picture: (image_size / patch_size) squared, by the tower's config.json; UserError without.

    The class token of a CLIP is not among them, and a SigLIP has none.
    """
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

"""The tokenizer.json of a language model -> one in which a picture has a token; the ids of all other text stay.

A token that is missing gets, of these, the first that there is: a row of the embedding that no token uses; for
`<image>`, the token of a byte that UTF-8 never has (so that a MiniMind model of 6,400 tokens stays one); a new
row.
"""

from __future__ import annotations

import json
from typing import Any

from minivlm.errors import UserError

# Bytes that no UTF-8 text has (RFC 3629, section 3), in byte-level BPE each written as the character of its
# number.
_NEVER = [chr(byte) for byte in (*range(0xFF, 0xF4, -1), 0xC1, 0xC0)]
_ADDING = ("TemplateProcessing", "BertProcessing", "RobertaProcessing")


class SpecialTokens:
    """A tokenizer.json, to which special tokens are added. `rows`: of the embedding, grown when there is no other
    way; `added`: token → id of those that were not in it; `placed`: of these the ones whose row is new, not
    trained under that id already."""

    def __init__(self, content: str, rows: int, name: str) -> None:
        """UserError when `content` is no tokenizer.json, or has more tokens than there are rows.

        What is read of it has been through the tokenizers library, which knows the type of every part.
        """
        require_tokenizer(content, name)
        try:
            self._json: dict[str, Any] = json.loads(content)
            self._added: list[dict[str, Any]] = self._json["added_tokens"]
            vocabulary = self._json["model"]["vocab"]
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{name}: not a tokenizer.json with a vocabulary") from None
        self._vocabulary: dict[str, int] = (
            vocabulary if isinstance(vocabulary, dict) else {token: i for i, (token, _) in enumerate(vocabulary)}
        )
        self.rows, self.added, self.placed = rows, dict[str, int](), dict[str, int]()
        self._next = 1 + max([*self._vocabulary.values(), *(token["id"] for token in self._added)], default=-1)
        if self._next > rows:
            raise UserError(f"{name}: {self._next:,} tokens, but the language model knows {rows:,}")

    def content(self) -> str:
        """The tokenizer.json."""
        self._added.sort(key=lambda token: token["id"])
        return json.dumps(self._json, ensure_ascii=False, indent=2) + "\n"

    def id_of(self, token: str) -> int | None:
        """The id of a token."""
        added = {each["content"]: int(each["id"]) for each in self._added}
        return added.get(token, self._vocabulary.get(token))

    def special(self) -> list[str]:
        """The special tokens, by id."""
        return [token["content"] for token in sorted(self._added, key=lambda t: t["id"]) if token["special"]]

    def ordinary(self) -> list[str]:
        """Added tokens that are not special, by id."""
        return [token["content"] for token in sorted(self._added, key=lambda t: t["id"]) if not token["special"]]

    def require(self, token: str, number: int | None = None) -> None:
        """Have `token`, special; at `number` if it is given: the id that the model was trained with, if it has a
        row for it."""
        for each in self._added:
            if each["content"] == token:
                each["special"] = True
                return
        found = self._vocabulary.get(token)
        if found is None:
            found = self._next if number is None else number
            if number is None or number >= self.rows:
                self.placed[token] = found
            self._next = max(self._next, found + 1)
            self.rows = max(self.rows, self._next)
            self.added[token] = found
        self._add(token, found)

    def require_image(self, token: str) -> None:
        """Have `token` for pictures; where no row is free, in the place of a byte that no text has."""
        byte = self._unused_byte()
        if self.id_of(token) is None and self._next >= self.rows and byte is not None:
            number = self._vocabulary[byte]
            # In its place, so that the vocabulary stays in order.
            renamed = {token if each == byte else each: i for each, i in self._vocabulary.items()}
            self._json["model"]["vocab"] = self._vocabulary = renamed
            self._add(token, number)
        else:
            self.require(token)

    def add_nothing(self) -> str | None:
        """Let the tokenizer put no token around texts by itself, as the chat template writes all of them; returns
        the one that it put before, if any."""
        processor = self._json.get("post_processor")
        if processor is None:
            return None
        parts = processor["processors"] if processor["type"] == "Sequence" else [processor]
        first = next((found for part in parts if (found := _first_token(part))), None)
        kept = [part for part in parts if part["type"] not in _ADDING]
        self._json["post_processor"] = (
            None if not kept else kept[0] if len(kept) == 1 else {"type": "Sequence", "processors": kept}
        )
        return first

    def _add(self, token: str, number: int) -> None:
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        self._added.append({"id": number, "content": token, **flags, "special": True})

    def _unused_byte(self) -> str | None:
        """A byte's token that no text becomes and no merge is made of."""
        model = self._json["model"]
        if model.get("type") != "BPE" or '"ByteLevel"' not in json.dumps(self._json.get("pre_tokenizer")):
            return None
        merged = {
            letter
            for merge in model.get("merges", [])
            for part in (merge.split(" ") if isinstance(merge, str) else merge)
            for letter in part
        }
        added = {token["content"] for token in self._added}
        return next((b for b in _NEVER if b in self._vocabulary and b not in merged and b not in added), None)


def require_tokenizer(content: str, name: str) -> None:
    """UserError unless the tokenizers library takes `content` for a tokenizer.json."""
    from tokenizers import Tokenizer

    try:
        Tokenizer.from_str(content)
    except Exception as error:  # the Rust side raises plain Exceptions
        raise UserError(f"{name}: not a tokenizer: {' '.join(str(error).split())[:200]}") from None


def _first_token(processor: dict[str, Any]) -> str | None:
    """The token that a post-processor puts before a text."""
    if processor["type"] == "TemplateProcessing":
        for piece in processor["single"]:
            if "Sequence" in piece:
                return None
            return str(piece["SpecialToken"]["id"])
    if processor["type"] in _ADDING:
        return str(processor["cls"][0])
    return None

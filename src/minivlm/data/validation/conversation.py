"""One conversation (JSON text) -> the facts that the expectations look at.

A conversation is a JSON list of turns, `{"role": "user" | "assistant", "content": text}`, with at most one turn of
the role "system" before them. `<image>` in a user's turn marks the place of a picture; several may stand in one
turn or be spread over turns. Only facts are found here; which are acceptable is declared in expectations.py.
"""

import hashlib
import json
import re
from typing import Any, NamedTuple

from minivlm.data.strict_json import JsonError, loads

IMAGE_MARK = "<image>"
KNOWN_ROLES = ("user", "assistant", "system")
TURNS = "turns"  # the `form` of a conversation that can be used

# Runs of letters by the blocks of the Unicode standard: Chinese characters, kana, bopomofo and Hangul (CJK); Latin
# with its extensions; and what is a letter at all.
_CJK = re.compile(
    "[\u1100-\u11ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303b\u3041-\u3096\u309d-\u309f"
    "\u30a1-\u30fa\u30fc-\u30ff\u3105-\u318f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f"
    "\uac00-\ud7ff\uf900-\ufaff\uff66-\uffdc\U0001aff0-\U0001b16f\U00020000-\U0003ffff]+"
)
_LATIN = re.compile("[A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02af\u1e00-\u1eff\u2c60-\u2c7f"
                    "\ua722-\ua7ff\ufb00-\ufb06\uff21-\uff3a\uff41-\uff5a]+")  # fmt: skip
_LETTERS = re.compile(r"[^\W\d_]+")


class Turn(NamedTuple):
    """Who speaks, and what."""

    role: str
    content: str


class ConversationFacts(NamedTuple):
    """Facts of one conversation; all but `form` and `digest` are None when it is not a list of turns.

    Characters are counted without `<image>` and without white space around the text.
    """

    form: str  # TURNS, or what the text is instead
    digest: bytes | None  # sha256 of roles and contents, so that JSON spacing does not hide a duplicate
    roles: str | None = None  # "user assistant"; a role nobody knows is "other"
    turns: int | None = None
    marks: int | None = None  # <image> where pictures may stand
    marks_elsewhere: int | None = None  # <image> in the turns of assistant and system
    shortest_answer: int | None = None  # characters; None without an assistant turn
    longest_turn: int | None = None
    question_characters: int | None = None
    answer_characters: int | None = None
    # Characters of all turns by their script; white space is none of them.
    cjk: int | None = None
    latin: int | None = None
    other_letters: int | None = None
    signs: int | None = None  # digits, punctuation, symbols


class ConversationError(ValueError):
    """The text is not a conversation; the message says what it is instead."""


def parse_turns(raw: bytes | None) -> list[Turn]:
    """The turns of a conversation; ConversationError when the bytes are anything else."""
    if raw is None:
        raise ConversationError("missing")
    try:
        value = loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise ConversationError("not UTF-8") from None
    except JsonError as fault:
        raise ConversationError(str(fault)) from None
    if not isinstance(value, list):
        raise ConversationError("not a list of turns")
    if not value:
        raise ConversationError("a list without turns")
    return [_turn(number, item) for number, item in enumerate(value, 1)]


def _turn(number: int, item: Any) -> Turn:
    if not isinstance(item, dict):
        raise ConversationError(f'turn {number} is not {{"role", "content"}}')
    for key in Turn._fields:
        if item.get(key) is None:
            raise ConversationError(f"turn {number} has no {key}")
        if not isinstance(item[key], str):
            raise ConversationError(f"the {key} of turn {number} is not text")
        if _has_lone_surrogate(item[key]):
            raise ConversationError(f"turn {number} has half a character (lone surrogate)")
    return Turn(item["role"], item["content"])


def _has_lone_surrogate(text: str) -> bool:
    """Whether a JSON escape such as `\\ud83d` stands without its other half: no UTF-8 can hold it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def conversation_facts(raw: bytes | None) -> ConversationFacts:
    """The facts of one conversation, given as the bytes of its JSON text."""
    try:
        turns = parse_turns(raw)
    except ConversationError as error:
        return ConversationFacts(form=str(error), digest=None if raw is None else hashlib.sha256(raw).digest())
    marks = [turn.content.count(IMAGE_MARK) for turn in turns]
    texts = [turn.content.replace(IMAGE_MARK, "").strip() for turn in turns]
    sizes = [len(text) for text in texts]
    answers = [size for turn, size in zip(turns, sizes, strict=True) if turn.role == "assistant"]
    elsewhere = sum(mark for turn, mark in zip(turns, marks, strict=True) if turn.role in KNOWN_ROLES[1:])
    return ConversationFacts(
        form=TURNS,
        digest=hashlib.sha256(json.dumps(turns, ensure_ascii=False).encode()).digest(),
        roles=" ".join(turn.role if turn.role in KNOWN_ROLES else "other" for turn in turns),
        turns=len(turns),
        marks=sum(marks) - elsewhere,
        marks_elsewhere=elsewhere,
        shortest_answer=min(answers, default=None),
        longest_turn=max(sizes),
        question_characters=sum(sizes) - sum(answers),
        answer_characters=sum(answers),
        **scripts("\n".join(texts)),
    )


def scripts(text: str) -> dict[str, int]:
    """How many characters are `cjk`, `latin`, `other_letters` and `signs`."""
    cjk, letters = (sum(map(len, kind.findall(text))) for kind in (_CJK, _LETTERS))
    latin = sum(map(len, _LATIN.findall(text))) if letters != cjk else 0
    # A few signs are no letters to Python and stand in the blocks (a Japanese vowel mark): they count as theirs.
    other = max(0, letters - cjk - latin)
    signs = len("".join(text.split())) - cjk - latin - other
    return {"cjk": cjk, "latin": latin, "other_letters": other, "signs": signs}

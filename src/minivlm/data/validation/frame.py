"""What is known of some rows of a file -> a metadata frame: the columns that the expectations look at."""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from minivlm.data.validation.conversation import TURNS, ConversationFacts
from minivlm.data.validation.digests import DigestIndex
from minivlm.data.validation.picture import DECODES, RGB_MODES, PictureFacts
from minivlm.data.validation.picture_table import NO_PICTURE
from minivlm.data.validation.verdict import row_id

if TYPE_CHECKING:
    import pandas as pd

SCRIPTS = ("cjk", "latin", "other_letters", "signs")
_INTEGERS = (
    *("turns", "marks", "marks_elsewhere", "shortest_answer", "longest_turn", "question_characters"),
    *("answer_characters", *SCRIPTS, "pictures", "width", "height", "shorter_side", "longer_side"),
)
_TEXTS = (
    *("form", "roles", "fault", "origin", "marks_and_pictures", "decoding", "format", "mode"),
    *("duplicate_of", "seen_in", "like"),
)
# Of a row with several pictures each of these columns holds the value of one: of the first at fault, if any is.
# A column `<name>_of` says which, counted from 1; it is missing where the row has one picture.
PICTURE_COLUMNS = ("decoding", "mode", "shorter_side", "longer_side", "seen_in", "like")


@dataclass
class Piece:
    """What is known of some rows in a line, a value for each."""

    first: int  # the number of the first row
    pictures: list[tuple[int, ...]] = field(default_factory=list)  # their numbers
    picture_counts: list[int] = field(default_factory=list)  # more than `pictures` where there are too many
    placeholders: list[bool] = field(default_factory=list)  # what stands for no picture stood there
    faults: list[str | None] = field(default_factory=list)
    origins: list[str | None] = field(default_factory=list)
    conversations: list[ConversationFacts] = field(default_factory=list)

    def extend(self, other: "Piece") -> None:
        """Take the rows that come after these."""
        for name in ("pictures", "picture_counts", "placeholders", "faults", "origins", "conversations"):
            getattr(self, name).extend(getattr(other, name))


class FirstRows:
    """The first row of each kind in one file: same pictures and same conversation."""

    def __init__(self) -> None:
        self._index = DigestIndex()
        self._rows = array("q")

    def of(self, piece: Piece) -> list[int | None]:
        """For each row the first one like it, None for that row itself; pieces come in their order."""
        rows, keys = [], []
        for row, (pictures, facts) in enumerate(zip(piece.pictures, piece.conversations, strict=True)):
            missing = NO_PICTURE in pictures or (facts.marks and not pictures)
            if not (piece.faults[row] or facts.digest is None or missing):
                rows.append(row)
                keys.append(hashlib.sha256(array("q", pictures).tobytes() + facts.digest).digest())
        found: list[int | None] = [None] * len(piece.pictures)
        for row, number in zip(rows, self._index.numbers(keys), strict=True):
            if number == len(self._rows):
                self._rows.append(piece.first + row)
            else:
                found[row] = self._rows[number]
        return found


@dataclass(frozen=True)
class Known:
    """What else is known of a picture by its number: its facts, the training row that shows the same one, and one
    that shows another which looks alike (both in words, None: none)."""

    facts: Callable[[int], PictureFacts]
    seen_in: Callable[[int], str | None] = lambda number: None
    like: Callable[[int], str | None] = lambda number: None


def metadata_frame(file: str, piece: Piece, first_rows: FirstRows, known: Known) -> "pd.DataFrame":
    """The metadata frame of a piece of a file.

    Columns: `row` (number in the file), the fields of `ConversationFacts` but the digest, `pictures` (how many),
    `marks_and_pictures` (told where their numbers differ), the fields of `PictureFacts` but the hash,
    `shorter_side` and `longer_side` in pixels, `fault` and `origin` as the file has them, `duplicate_of` (id of
    the first row with the same pictures and the same conversation), `seen_in` (id of the first training row with
    the same picture) and `like` (of one with a picture that looks alike, and in how many bits of the hash they
    differ). Of several pictures see PICTURE_COLUMNS; format, width and height are the first one's. Unknown values
    are missing.
    """
    import numpy as np
    import pandas as pd

    values: dict[str, list[Any]] = _transpose(ConversationFacts._fields, piece.conversations)
    # A row that could not be read has no conversation or pictures here: its fault is told, not what follows of it.
    values["form"] = [
        TURNS if fault and facts.digest is None else facts.form
        for fault, facts in zip(piece.faults, piece.conversations, strict=True)
    ]
    values["fault"], values["origin"] = piece.faults, piece.origins
    values["pictures"] = [
        None if fault else count for fault, count in zip(piece.faults, piece.picture_counts, strict=True)
    ]
    values["marks_and_pictures"] = _differences(values["marks"], values["pictures"], piece.placeholders)
    values |= _picture_values(piece.pictures, known)
    values["duplicate_of"] = [None if row is None else row_id(file, row) for row in first_rows.of(piece)]
    frame = pd.DataFrame({"row": np.arange(piece.first, piece.first + len(piece.pictures), dtype=np.int64)})
    for name in (*_INTEGERS, *(f"{name}_of" for name in PICTURE_COLUMNS)):
        frame[name] = pd.array(values.pop(name), dtype="Int32")  # a list goes as its column comes
    for name in _TEXTS:
        frame[name] = pd.array(values.pop(name), dtype="str")
    return frame


def _transpose(names: Iterable[str], rows: list[Any]) -> dict[str, list[Any]]:
    """Tuples with these field names -> one list per field."""
    return {name: [row[index] for row in rows] for index, name in enumerate(names)}


def _differences(
    marks: list[int | None], pictures: list[int | None], placeholders: list[bool]
) -> list[str | None]:
    """Where a row's <image> and its pictures differ in number, both numbers in words."""
    found: list[str | None] = []
    for mark, count, placeholder in zip(marks, pictures, placeholders, strict=True):
        if mark is None or count is None or mark == count:
            found.append(None)
            continue
        of_pictures = f"{count or 'no'} picture{'s' if count > 1 else ''}"
        note = " (the black 8 x 8 placeholder is none)" if placeholder else ""
        found.append(f"{mark or 'no'} <image>, {of_pictures}{note}")
    return found


def _picture_values(rows: list[tuple[int, ...]], known: Known) -> dict[str, list[Any]]:
    """The columns of pictures, for rows given as the number of each of their pictures."""
    names = ("format", "width", "height", *PICTURE_COLUMNS, *(f"{name}_of" for name in PICTURE_COLUMNS))
    told: dict[str, list[Any]] = {name: [] for name in names}
    for row in rows:
        line = _picture_line([known.facts(number) for number in row])
        seen, like = _first_told(row, known.seen_in), _first_told(row, known.like)
        values = [
            *line[:7],
            seen[1],
            like[1],
            *line[7:],
            *(at if len(row) > 1 else None for at, _ in (seen, like)),
        ]
        for name, value in zip(names, values, strict=True):
            told[name].append(value)
    return told


def _first_told(row: tuple[int, ...], tell: Callable[[int], str | None]) -> tuple[int, str] | tuple[None, None]:
    """Of the pictures of a row the first of which something is told: its place from 1, and what."""
    return next(((at, what) for at, number in enumerate(row, 1) if (what := tell(number))), (None, None))


def _picture_line(facts: Sequence[PictureFacts]) -> list[Any]:
    """Values of one row: format, width, height, four of PICTURE_COLUMNS, and which picture each of these is of."""
    if not facts:
        return [None] * 11
    sides = [None if fact.width is None or fact.height is None else (fact.width, fact.height) for fact in facts]
    short, long = ([pair and chosen(pair) for pair in sides] for chosen in (min, max))
    places = (
        _first(i for i, fact in enumerate(facts) if fact.decoding not in (DECODES, None)),
        _first(i for i, fact in enumerate(facts) if fact.mode is not None and fact.mode not in RGB_MODES),
        min(range(len(facts)), key=lambda i: (short[i] is None, short[i])),
        min(range(len(facts)), key=lambda i: (long[i] is None, -(long[i] or 0))),
    )
    decoding, mode, shorter, longer = places
    values = [facts[decoding].decoding, facts[mode].mode, short[shorter], long[longer]]
    which = [place + 1 if len(facts) > 1 else None for place in places]
    return [facts[0].format, facts[0].width, facts[0].height, *values, *which]


def _first(places: Iterable[int]) -> int:
    return next(iter(places), 0)

"""What is known of each row -> one metadata frame: the columns that the expectations look at."""

import hashlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from minivlm.data.validation.conversation import TURNS, ConversationFacts
from minivlm.data.validation.picture import DECODES, MISSING, RGB_MODES, PictureFacts

if TYPE_CHECKING:
    import pandas as pd

_INTEGERS = (
    *("turns", "marks", "marks_elsewhere", "shortest_answer", "longest_turn", "question_characters"),
    *("answer_characters", "pictures", "width", "height", "shorter_side", "longer_side"),
)
_TEXTS = (
    *("form", "roles", "fault", "origin", "marks_and_pictures", "decoding", "format", "mode"),
    *("duplicate_of", "seen_in"),
)
# Of a row with several pictures each of these columns holds the value of one: of the first at fault, if any is.
# A column `<name>_of` says which, counted from 1; it is missing where the row has one picture.
PICTURE_COLUMNS = ("decoding", "mode", "shorter_side", "longer_side", "seen_in")


@dataclass
class FileColumns:
    """What is known of one file's rows so far, a value for each."""

    pictures: list[tuple[bytes, ...]] = field(default_factory=list)  # sha256 of each; empty: it is missing
    picture_counts: list[int] = field(default_factory=list)  # more than `pictures` where there are too many
    placeholders: list[bool] = field(default_factory=list)  # what stands for no picture stood there
    faults: list[str | None] = field(default_factory=list)
    origins: list[str | None] = field(default_factory=list)
    conversations: list[ConversationFacts] = field(default_factory=list)


def row_id(file: str, row: int) -> str:
    """A row's name in every report: `file:row number`."""
    return f"{file}:{row}"


def metadata_frame(
    file: str, columns: FileColumns, pictures: Mapping[bytes, PictureFacts], trained_on: Mapping[bytes, str]
) -> "pd.DataFrame":
    """The metadata frame of one file; `trained_on` maps the pictures of the training files to row ids.

    Columns: `row` (number in the file), the fields of `ConversationFacts` but the digest, `pictures` (how many),
    `marks_and_pictures` (told where their numbers differ), the fields of `PictureFacts`, `shorter_side` and
    `longer_side` in pixels, `fault` and `origin` as the file has them, `duplicate_of` (id of the first row with
    the same pictures and the same conversation) and `seen_in` (id of the first training row with the same
    picture). Of several pictures see PICTURE_COLUMNS; format, width and height are the first one's. Unknown
    values are missing.
    """
    import numpy as np
    import pandas as pd

    values: dict[str, list[Any]] = _transpose(ConversationFacts._fields, columns.conversations)
    # A row that could not be read has no conversation or pictures here: its fault is told, not what follows of it.
    values["form"] = [
        TURNS if fault and facts.digest is None else facts.form
        for fault, facts in zip(columns.faults, columns.conversations, strict=True)
    ]
    values["fault"], values["origin"] = columns.faults, columns.origins
    values["pictures"] = [
        None if fault else count for fault, count in zip(columns.faults, columns.picture_counts, strict=True)
    ]
    values["marks_and_pictures"] = _differences(values["marks"], values["pictures"], columns.placeholders)
    values |= _picture_values(columns.pictures, pictures, trained_on)
    values["duplicate_of"] = _duplicates(file, columns)
    frame = pd.DataFrame({"row": np.arange(len(columns.pictures), dtype=np.int64)})
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


def _picture_values(
    rows: list[tuple[bytes, ...]], pictures: Mapping[bytes, PictureFacts], trained_on: Mapping[bytes, str]
) -> dict[str, list[Any]]:
    """The columns of pictures, for rows given as the sha256 of each of their pictures."""
    names = ("format", "width", "height", *PICTURE_COLUMNS, *(f"{name}_of" for name in PICTURE_COLUMNS))
    told: dict[str, list[Any]] = {name: [] for name in names}
    for row in rows:
        line = _picture_line([pictures.get(digest, MISSING) for digest in row])
        seen = next(((at, trained_on[d]) for at, d in enumerate(row, 1) if d in trained_on), (None, None))
        several = len(row) > 1
        for name, value in zip(names, [*line[:7], seen[1], *line[7:], seen[0] if several else None], strict=True):
            told[name].append(value)
    return told


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


def _duplicates(file: str, columns: FileColumns) -> list[str | None]:
    """For each row the id of the first with the same pictures and conversation, or None for that row itself."""
    import numpy as np

    rows, hashes = (
        array("q"),
        bytearray(),
    )  # of the rows that can be compared; a dictionary takes ten times as much
    for row, (pictures, facts) in enumerate(zip(columns.pictures, columns.conversations, strict=True)):
        missing = b"" in pictures or (facts.marks and not pictures)
        if not (columns.faults[row] or facts.digest is None or missing):
            rows.append(row)
            hashes += hashlib.sha256(b"".join((*pictures, facts.digest))).digest()[:16]
    high, low = np.frombuffer(bytes(hashes), np.uint64).reshape(-1, 2).T
    order = np.lexsort((low, high))  # stable: of equal rows the first one comes first
    is_new = np.ones(len(order), bool)
    is_new[1:] = (np.diff(high[order]) != 0) | (np.diff(low[order]) != 0)
    originals = order[np.flatnonzero(is_new)[np.cumsum(is_new) - 1]]
    found: list[str | None] = [None] * len(columns.pictures)
    for later, original in zip(order[~is_new].tolist(), originals[~is_new].tolist(), strict=True):
        found[rows[later]] = row_id(file, rows[original])
    return found

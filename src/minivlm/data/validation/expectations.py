"""What is expected of the files of the download stage and of their rows.

Table checks look at a frame of one line that describes the Parquet file; if one fails, the file cannot be used.
Row checks look at the metadata frames; rows they do not hold for are rejected one by one.
"""

from dataclasses import dataclass

from minivlm.data.validation.checks import Check
from minivlm.data.validation.conversation import TURNS
from minivlm.data.validation.likeness import BITS
from minivlm.data.validation.parquet_rows import COLUMNS, TableShape
from minivlm.data.validation.picture import DECODES, MAX_PICTURES, RGB_MODES

# Arrow's names of the types that hold text and bytes
_TYPES = {
    "conversations": ("string", "large_string"),
    "image_bytes": ("binary", "large_binary", "list<binary>", "list<large_binary>"),
}


@dataclass(frozen=True)
class Limits:
    """Bounds of a row that params.yaml sets."""

    max_text_characters: int
    min_side: int  # pixels
    max_side: int  # pixels
    near_duplicate_bits: int | None = None  # of a perceptual hash; None: pictures that look alike are not searched


def table_checks(shape: TableShape) -> list[Check]:
    """Checks of the file as a whole. The type of a column is checked where the column exists."""
    checks = []
    for name in COLUMNS:
        meaning = f"the file has the column {name}"
        checks.append(Check(f"has_{name}", name, meaning, "no such column", "ExpectColumnToExist"))
        if name in shape.types:
            meaning, reason = f"{name} is of type {' or '.join(_TYPES[name])}", f"of type {shape.types[name]}"
            allowed = {"value_set": list(_TYPES[name])}
            checks.append(Check(f"{name}_type", name, meaning, reason, "ExpectColumnValuesToBeInSet", allowed))
    rows = Check(
        "has_rows", "rows", "the file has rows", "none", "ExpectColumnValuesToBeBetween", {"min_value": 1}
    )
    return [*checks, rows]


def row_checks(limits: Limits, *, held_out: bool) -> list[Check]:
    """Checks of each row; rows of held-out files must also show one picture, which no training file shows."""
    between, in_set, null = (f"ExpectColumnValuesTo{kind}" for kind in ("BeBetween", "BeInSet", "BeNull"))
    checks = [
        Check("row_is_readable", "fault", "the row and the pictures that it names can be read", "{value}", null),
        Check("conversation_is_turns", "form", 'the conversation is a JSON list of {"role", "content"}',
              "{value}", in_set, {"value_set": [TURNS]}),
        Check("roles_alternate", "roles",
              "user and assistant take turns, the user first, the assistant last; one system turn may come before",
              "{value}", "ExpectColumnValuesToMatchRegex",
              {"regex": r"^(?:system )?user assistant(?: user assistant)*$"}),
        Check("pictures_match_marks", "marks_and_pictures",
              "the user's turns have one <image> for each picture, and a row without pictures has none",
              "{value}", null),
        Check("no_other_image_mark", "marks_elsewhere", "no turn of assistant or system has <image>",
              "{value} times <image> in turns of assistant or system", between, {"min_value": 0, "max_value": 0}),
        Check("answers_have_text", "shortest_answer", "every assistant turn has text",
              "an assistant turn without text", between, {"min_value": 1}),
        Check("turns_fit", "longest_turn", f"no turn is longer than {limits.max_text_characters} characters",
              "a turn of {value} characters", between, {"max_value": limits.max_text_characters}),
        Check("pictures_not_many", "pictures", f"a row has at most {MAX_PICTURES} pictures",
              "{value} pictures", between, {"max_value": MAX_PICTURES}),
        Check("picture_decodes", "decoding", "every picture decodes to its last pixel",
              "{value}", in_set, {"value_set": [DECODES]}),
        Check("picture_is_rgb", "mode", "the mode of every picture converts to RGB without loss of range",
              "picture of mode {value}", in_set, {"value_set": list(RGB_MODES)}),
        Check("picture_not_small", "shorter_side", f"no side is shorter than {limits.min_side} pixels",
              "a side of {value} pixels", between, {"min_value": limits.min_side}),
        Check("picture_not_large", "longer_side", f"no side is longer than {limits.max_side} pixels",
              "a side of {value} pixels", between, {"max_value": limits.max_side}),
        Check("no_duplicate", "duplicate_of", "no earlier row has the same pictures and the same conversation",
              "same pictures and conversation as {value}", null),
    ]  # fmt: skip
    if held_out:
        checks += [
            Check("one_picture", "pictures", "a held-out row has one picture, which evaluate asks about",
                  "{value} pictures", between, {"min_value": 1, "max_value": 1}),
            Check("no_leakage", "seen_in", "no training file has the same picture",
                  "same picture as {value}", null),
        ]  # fmt: skip
    if held_out and limits.near_duplicate_bits is not None:
        meaning = (
            f"no training file has another picture whose perceptual hash differs in at most "
            f"{limits.near_duplicate_bits} of {BITS} bits"
        )
        checks.append(Check("no_near_leakage", "like", meaning, "looks like a picture of {value}", null))
    return checks

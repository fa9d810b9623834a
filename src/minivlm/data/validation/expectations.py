"""What is expected of a file and of its rows, declared once, and the run of Great Expectations over the metadata.

Table checks look at a frame of one line that describes the Parquet file; if one fails, the file cannot be used.
Row checks look at the metadata frame; rows they do not hold for are rejected one by one. A check holds for values
that are missing: what could not be found out is the fault of another check.
"""

import html
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.data.validation.conversation import TURNS
from minivlm.data.validation.metadata import COLUMNS, TableShape
from minivlm.data.validation.picture import DECODES, MAX_PICTURES, RGB_MODES

if TYPE_CHECKING:
    import pandas as pd

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


@dataclass(frozen=True)
class Check:
    """One expectation: `kind` is a class of great_expectations.expectations, `arguments` are its own."""

    name: str
    column: str
    meaning: str  # the sentence in the reports
    reason: str  # what is said of a row at fault; {value} is what was found
    kind: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckResult:
    """How a check ended; `faults` has the value found for each line number at fault (level "row" only)."""

    check: Check
    success: bool
    checked: int
    unexpected: int
    faults: dict[int, Any] = field(default_factory=dict)


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
    return checks


class GreatExpectations:
    """An ephemeral context that runs checks; with `docs`, its Data Docs go to that folder."""

    def __init__(self, docs: Path | None = None) -> None:
        os.environ["GX_ANALYTICS_ENABLED"] = "False"  # read on import by the releases that have analytics
        import great_expectations as gx
        from great_expectations.data_context.types import base

        sites = {"site": _docs_site(docs)} if docs else {}
        config = base.DataContextConfig(
            store_backend_defaults=base.InMemoryStoreBackendDefaults(),
            data_docs_sites=sites,
            analytics_enabled=False,
            progress_bars=base.ProgressBarsConfig(globally=False, metric_calculations=False),
        )
        self._context = gx.get_context(mode="ephemeral", project_config=config)
        self._source = self._context.data_sources.add_pandas("metadata")

    def run(self, name: str, frame: "pd.DataFrame", checks: Sequence[Check]) -> list[CheckResult]:
        """Run checks over the lines of a frame (its column `row` has their numbers) as the suite `name`."""
        import great_expectations as gx

        expectations = [_expectation(check) for check in checks]
        suite = self._context.suites.add(gx.ExpectationSuite(name, expectations=expectations))
        batch = self._source.add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)
        definition = self._context.validation_definitions.add(
            gx.ValidationDefinition(name=name, data=batch, suite=suite)
        )
        outcome = definition.run(
            batch_parameters={"dataframe": frame},
            result_format={
                "result_format": "COMPLETE",
                "unexpected_index_column_names": ["row"],
                "return_unexpected_index_query": False,
            },
            run_id=gx.RunIdentifier(run_name="validate"),
        )
        by_name = {result.expectation_config.meta["check"]: result for result in outcome.results}
        return [_result(check, by_name[check.name], len(frame)) for check in checks]

    def build_docs(self) -> None:
        """Write the Data Docs of everything run so far."""
        self._context.build_data_docs()


def _docs_site(folder: Path) -> dict[str, Any]:
    return {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder)},
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
    }


def _expectation(check: Check) -> Any:
    import great_expectations.expectations as gxe

    kind = getattr(gxe, check.kind)
    # Data Docs show the description as it is: unescaped, <image> would be a tag.
    meaning = html.escape(check.meaning[0].upper() + check.meaning[1:])
    return kind(column=check.column, description=meaning, meta={"check": check.name}, **check.arguments)


def _result(check: Check, found: Any, lines: int) -> CheckResult:
    """Great Expectations' result as ours; RuntimeError when it could not compute the expectation."""
    faults: Collection[Mapping[str, Any]] = found.result.get("unexpected_index_list") or ()
    unexpected = int(found.result.get("unexpected_count", 0))
    if not found.success and not unexpected and check.kind != "ExpectColumnToExist":
        raise RuntimeError(f"expectation {check.name} could not be computed: {found.exception_info}")
    values = {int(fault["row"]): fault[check.column] for fault in faults}
    return CheckResult(check, bool(found.success), lines, unexpected, values)

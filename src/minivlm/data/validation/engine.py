"""Great Expectations, run on frames of metadata."""

import html
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.data.validation.checks import Check, CheckResult

if TYPE_CHECKING:
    import pandas as pd

_SOURCE = "metadata"


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
        self._suites: dict[str, Any] = {}

    def run(self, name: str, frame: "pd.DataFrame", checks: Sequence[Check]) -> list[CheckResult]:
        """Run checks over the lines of a frame (its column `row` has their numbers) as the suite `name`.

        A suite may be run on one piece of a table after another; each gets a page of its own in the Data Docs.
        """
        import great_expectations as gx

        if name not in self._suites:
            expectations = [_expectation(check) for check in checks]
            self._suites[name] = self._context.suites.add(gx.ExpectationSuite(name, expectations=expectations))
        # A data source of its own for each run: it would keep the frames, and what it once computed of them.
        source = self._context.data_sources.add_pandas(_SOURCE)
        batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)
        definition = self._context.validation_definitions.add(
            gx.ValidationDefinition(name=name, data=batch, suite=self._suites[name])
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
        self._context.validation_definitions.delete(name)
        self._context.data_sources.delete(_SOURCE)
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

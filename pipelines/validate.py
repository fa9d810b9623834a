"""Rows → the row numbers that passed, a report of every row that did not, and Data Docs."""

import shutil
from pathlib import Path

from minivlm.stage import StageRun, stage_app


def write_accepted(path: Path, rows: list[int]) -> None:
    """The accepted row numbers as a Parquet file with the one column `row`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"row": pa.array(rows, pa.int64())}), path)


def validate(stage: StageRun) -> None:
    """Check every file; write reports in any case, accepted row numbers only when every file passes."""
    from minivlm.data.validation.docs import offline_docs
    from minivlm.data.validation.expectations import Limits
    from minivlm.data.validation.gate import check_tables
    from minivlm.data.validation.report import absent_report, failure, file_report, metrics
    from minivlm.errors import UserError
    from minivlm.files import atomic_directory, write_json
    from minivlm.paths import SPLITS

    section = stage.params.validate_
    optional = stage.paths.table("compositional")
    tables = {split: stage.paths.table(split) for split in SPLITS if split != "compositional" or optional.exists()}
    shutil.rmtree(stage.artifacts, ignore_errors=True)  # a failing gate leaves no older verdict behind
    with atomic_directory(stage.reports / "data_docs") as docs:
        verdicts = check_tables(
            tables,
            limits=Limits(section.max_text_characters, section.min_side, section.max_side),
            max_bad_fraction=section.max_bad_fraction,
            workers=stage.workers,
            docs=docs,
        )
        offline_docs(docs, verdicts.values())

    for split in SPLITS:
        found = verdicts.get(split)
        report = file_report(found, section.max_bad_fraction) if found else absent_report(split)
        write_json(stage.reports / f"{split}.json", report)
        stage.tracker.log_artifact(stage.reports / f"{split}.json", "validate")
    counts = metrics(verdicts.values())
    write_json(stage.reports / "metrics.json", counts)
    stage.tracker.log_metrics(counts)

    problem = failure(verdicts.values(), section.max_bad_fraction, "reports/validate")
    if problem:
        raise UserError(problem)
    with atomic_directory(stage.artifacts) as folder:
        for split, verdict in verdicts.items():
            write_accepted(folder / f"{split}.parquet", verdict.accepted)


app = stage_app("validate", __doc__ or "", validate)

if __name__ == "__main__":
    app()

"""Rows → the row numbers that passed, a report of every row that did not, and Data Docs."""

import shutil

from minivlm.stage import StageRun, stage_app


def validate(stage: StageRun) -> None:
    """Check every file; write reports in any case, accepted row numbers only when every file passes."""
    from minivlm.data.validation.accepted import check_accepted, write_accepted
    from minivlm.data.validation.docs import offline_docs
    from minivlm.data.validation.engine import GreatExpectations
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
    with atomic_directory(stage.artifacts) as folder:
        with atomic_directory(stage.reports / "data_docs") as docs:
            engine = GreatExpectations(docs)
            verdicts = check_tables(
                tables,
                limits=Limits(
                    section.max_text_characters, section.min_side, section.max_side, section.alike_within
                ),
                max_bad_fraction=section.max_bad_fraction,
                workers=stage.workers,
                engine=engine,
            )
            if all(verdict.passed for verdict in verdicts.values()):
                for split, verdict in verdicts.items():
                    write_accepted(folder / f"{split}.parquet", verdict)
                verdicts = check_accepted(engine, folder, verdicts)
            engine.build_docs()
            offline_docs(docs, verdicts.values())

        for split in SPLITS:
            found = verdicts.get(split)
            report = file_report(found, section.max_bad_fraction) if found else absent_report(split)
            write_json(stage.reports / f"{split}.json", report)
            stage.tracker.log_artifact(stage.reports / f"{split}.json", "validate")
        counts = metrics(verdicts.values())
        write_json(stage.reports / "metrics.json", counts)
        stage.tracker.log_metrics(counts)
        if problem := failure(verdicts.values(), section.max_bad_fraction, "reports/validate"):
            raise UserError(problem)  # and nothing takes the place of the accepted rows


app = stage_app("validate", __doc__ or "", validate)

if __name__ == "__main__":
    app()

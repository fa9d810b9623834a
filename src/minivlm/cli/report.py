"""`minivlm report`: make reports/index.html and reports/report.md again from the reports that are there."""

import typer


def command() -> None:
    """Make reports/index.html and reports/report.md again from the stages' reports."""
    from minivlm.evaluation.report import write_report
    from minivlm.paths import Paths

    typer.echo(write_report(Paths()))

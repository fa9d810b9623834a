"""`minivlm report`: make reports/index.html again from the reports that are there."""

import typer


def command() -> None:
    """Make reports/index.html again from the stages' reports."""
    from minivlm.evaluation.report import write_report
    from minivlm.paths import Paths
    from minivlm.stage import one_line_errors

    with one_line_errors():
        typer.echo(write_report(Paths()))

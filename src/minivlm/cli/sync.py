"""`minivlm sync`: bring to MLflow what could not be brought while its stage ran.

Exit code 0: nothing waits any more, but for stages that run; 1: something still does, and the line says why.
"""

from typing import Annotated

import typer


def command(
    to: Annotated[
        str, typer.Option(metavar="URI", help="Another store than the one each run was meant for.")
    ] = "",
) -> None:
    """Deliver to MLflow what was left while its server was away, or because a stage was killed.

    Exit code 1: something still waits, and the line says why.
    """
    from minivlm.config import load_params
    from minivlm.paths import Paths
    from minivlm.tracking.backlog import deliver_left

    paths = Paths()
    experiment = load_params(paths.params).tracking.experiment
    left = deliver_left(paths.journal, paths.tracking, experiment, wait=True, to=to)
    typer.echo(left.line())
    if left.waiting:
        raise typer.Exit(1)

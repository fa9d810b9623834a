"""The command `minivlm`: one small module of this folder for each subcommand.

Each module imports what is heavy inside its function, so that `minivlm --help` answers at once.
"""

from typing import Annotated

import typer

import minivlm
from minivlm.cli import (
    caption,
    chat,
    check_data,
    commands,
    demo,
    estimate,
    experiments,
    export,
    import_checkpoint,
    params,
    pin,
    profile,
    readme,
    report,
    serve,
    sync,
    ui,
)
from minivlm.command import App, Verbose
from minivlm.terminal import standard_output

app = App()


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"minivlm {minivlm.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Tools around the minivlm pipeline; the pipeline itself is run with `make repro` or `dvc repro`."""
    standard_output()
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.command("caption")(caption.command)
app.command("chat")(chat.command)
app.command("check-data")(check_data.command)
app.command("commands", hidden=True)(commands.command)
app.command("demo")(demo.command)
app.command("estimate")(estimate.command)
app.command("experiments")(experiments.command)
app.command("export")(export.command)
app.command("import-checkpoint")(import_checkpoint.command)
app.command("params")(params.command)
app.command("pin")(pin.command)
app.command("profile")(profile.command)
app.command("readme")(readme.command)
app.command("report")(report.command)
app.command("serve")(serve.command)
app.command("sync")(sync.command)
app.command("ui")(ui.command)


if __name__ == "__main__":
    app()

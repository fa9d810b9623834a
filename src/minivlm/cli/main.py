"""The command `minivlm`: one small module of this folder for each subcommand.

Each module imports what is heavy inside its function, so that `minivlm --help` answers at once.
"""

import typer

from minivlm.cli import (
    caption,
    check_data,
    estimate,
    export,
    import_checkpoint,
    params,
    pin,
    profile,
    readme,
    report,
    sync,
    ui,
)

app = typer.Typer(
    help="Tools around the minivlm pipeline; the pipeline itself is run with `make repro` or `dvc repro`.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("caption")(caption.command)
app.command("check-data")(check_data.command)
app.command("estimate")(estimate.command)
app.command("export")(export.command)
app.command("import-checkpoint")(import_checkpoint.command)
app.command("params")(params.command)
app.command("pin")(pin.command)
app.command("profile")(profile.command)
app.command("readme")(readme.command)
app.command("report")(report.command)
app.command("sync")(sync.command)
app.command("ui")(ui.ui)


if __name__ == "__main__":
    app()

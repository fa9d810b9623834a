"""`minivlm export`: a LLaVA directory → the original's checkpoint."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """What can be written."""

    minimind = "minimind"


def command(
    directory: Annotated[Path, typer.Argument(help="A LLaVA directory, such as artifacts/sft/model.")],
    format: Annotated[Format, typer.Option(help="minimind: the original's state dict in half precision.")],
    out: Annotated[
        Path | None,
        typer.Option(help="File to write, .pth; sft_model.pth by default for artifacts/sft/model, and so on."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Write a model as the original's .pth file, with its configuration beside it as .json."""
    from minivlm.errors import UserError
    from minivlm.files import write_json
    from minivlm.model.minimind import export_checkpoint
    from minivlm.model.minimind.exporting import configuration

    resolved = directory.resolve()
    path = out or Path(f"{resolved.parent.name}_{resolved.name}.pth")
    if path.suffix != ".pth":  # beside it comes a .json of the same name
        raise UserError(f"{path}: give the name of a .pth file")
    fields = path.with_suffix(".json")
    there = [str(file) for file in (path, fields) if file.exists()]
    if there and not force:
        raise UserError(f"{' and '.join(there)}: there already; give another name with --out, or --force")
    written = export_checkpoint(directory, path)
    write_json(fields, configuration(directory))
    typer.echo(f"{path}: {len(written)} tensors in half precision; {fields}: the original's configuration")

"""`minivlm commands`: the help of every command as docs/commands.md has it; a test fails when the two differ."""

import importlib
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.main

MARKS = ("<!-- commands:begin -->", "<!-- commands:end -->")


def command(
    context: typer.Context,
    write: Annotated[bool, typer.Option("--write", help="Write docs/commands.md and stop.")] = False,
) -> None:
    """Print the help of every command, or write it into docs/commands.md."""
    from minivlm.paths import Paths

    root = Paths().root
    if not write:
        typer.echo(reference(context.find_root().command, root))
        return
    from minivlm.files import write_text

    page = root / "docs" / "commands.md"
    write_text(page, written(page.read_text(encoding="utf-8"), context.find_root().command, root))


def written(page: str, top: Any, root: Path) -> str:
    """The page with the reference between its marks; arguments as `reference` takes them."""
    from minivlm.cli.documents.blocks import replace_block

    return replace_block(page, reference(top, root), "docs/commands.md", MARKS)


def reference(top: Any, root: Path) -> str:
    """The help of `minivlm` (`top`), its subcommands and the stages of the checkout `root`, in Markdown."""
    from minivlm.paths import STAGES

    shown = {"minivlm": top}
    shown |= {f"minivlm {name}": each for name, each in top.commands.items() if not each.hidden}
    if str(root) not in sys.path:  # the stages are no part of the package
        sys.path.insert(0, str(root))
    for stage in STAGES:
        name = f"pipelines.{stage}"
        shown[f"python -m {name}"] = typer.main.get_command(importlib.import_module(name).app)
    return "\n".join(f"### {name}\n\n```text\n{_help(each, name)}\n```\n" for name, each in shown.items())


def _help(command: Any, name: str) -> str:
    context = command.context_class(command, info_name=name, terminal_width=78)
    return re.sub(r"\x1b\[\d*m", "", command.get_help(context)).rstrip()

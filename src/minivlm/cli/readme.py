"""`minivlm readme`: write what is generated in the READMEs and in docs/, so that no figure is typed by hand.

What is generated, and from what, is in minivlm.cli.documents.blocks. A test fails when a document is not current.
"""

from typing import Annotated

import typer


def command(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail when something is stale.")] = False,
) -> None:
    """Write what is generated in README.md, README.zh-CN.md and docs/: figures, tables, a drawing."""
    from minivlm.cli.documents.blocks import generated
    from minivlm.errors import UserError
    from minivlm.files import write_text
    from minivlm.paths import Paths

    paths = Paths()
    for path, text in generated(paths).items():
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        name = path.relative_to(paths.root)
        if check:
            raise UserError(f"{name}: what is generated in it is stale; run `minivlm readme`")
        write_text(path, text)
        typer.echo(f"wrote {name}")

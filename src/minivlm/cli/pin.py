"""`minivlm pin`: names in params.yaml become pins: revision, files, sizes and hashes, comments kept.

For every hub source its commit is looked up (the one that stands there, a named one, or the newest of main), and
size and sha256 of the files that loading reads. For every local source its file or folder is hashed. What changed
shows in `git diff params.yaml`.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from minivlm.cli.complete import pinned_sections
from minivlm.errors import UserError


def command(
    section: Annotated[
        str | None, typer.Option(help="Only this section: download or base.", autocompletion=pinned_sections)
    ] = None,
    update: Annotated[bool, typer.Option("--update", help="Take the newest commit of main everywhere.")] = False,
    revision: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=REF", help="Pin KEY (download.hub.sft) at a branch, tag or commit; repeatable."),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Print what would change and stop.")] = False,
) -> None:
    """Look up revisions, sizes and hashes of every source that params.yaml names, and write them into it.

    A revision that stands there is kept, unless --update or --revision says otherwise.
    """
    from minivlm.files import write_text
    from minivlm.paths import Paths

    paths = Paths()
    text, changes = pinned(paths.params, section, update, revision or ())
    for change in changes:
        typer.echo(change)
    if not changes:
        typer.echo("params.yaml: every source that it names is pinned already")
    elif not show:
        write_text(paths.params, text)
        typer.echo(f"params.yaml: {len(changes)} values changed; `git diff params.yaml` shows them")


def pinned(
    params: Path, section: str | None, update: bool = False, revisions: Sequence[str] = ()
) -> tuple[str, list[str]]:
    """The text of `params` with every source pinned, and one line for each change.

    A hub source's revision is what `revisions` (KEY=REF) say, else the one that stands there unless `update`, else
    the newest commit of main. UserError when params.yaml is wrong otherwise, a source cannot be found, or none is
    named.
    """
    from ruamel.yaml import YAML

    from minivlm.config import parse_params
    from minivlm.hub import named, resolve, writing

    if section is not None and section not in named.SECTIONS:
        raise UserError(f"--section {section}: must be {' or '.join(named.SECTIONS)}")
    yaml = YAML()
    yaml.width = 4096
    yaml.preserve_quotes = True
    values = _load(yaml, params)
    repositories = list(named.repositories(values, section))
    local = list(named.local_paths(values, section))
    if not repositories and not local:
        raise UserError("params.yaml names no source to pin; docs/hub.md shows how to name one")
    asked = _asked(revisions, [source.key for source in repositories])
    changes: list[str] = []
    for path in local:  # what needs no network first
        changes += writing.write_hash(path.section, path.key, path.field, _hash(params.parent, path))
    for source in repositories:
        try:
            wanted = asked.get(source.key) or (None if update else source.revision)
            revision, files = resolve(source.repo, source.kind, source.choose, wanted)
        except UserError as error:
            raise UserError(f"{source.key}: {error}") from None
        changes += writing.write_pin(source.section, source.key, revision, files)
    stream = io.StringIO()
    yaml.dump(values, stream)
    parse_params(YAML(typ="safe", pure=True).load(stream.getvalue()), params.name)
    return stream.getvalue(), changes


def _load(yaml: Any, params: Path) -> Any:
    from ruamel.yaml.error import YAMLError

    try:
        values = yaml.load(params.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{params.name}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"{params.name}: must be a mapping of sections")
    return values


def _asked(revisions: Sequence[str], keys: Sequence[str]) -> dict[str, str]:
    """Key → branch, tag or commit, of `--revision KEY=REF`."""
    asked = {}
    for each in revisions:
        key, _, reference = each.partition("=")
        if key not in keys or not reference:
            known = ", ".join(keys) or "none of a hub"
            raise UserError(f"--revision {each}: must be KEY=REF, with a source for KEY; there are: {known}")
        asked[key] = reference
    return asked


def _hash(root: Path, named: Any) -> str:
    """The hash that a stage compares: of a file's bytes, or of a folder's names and contents."""
    from minivlm.files import sha256_tree

    path = root / named.path  # as the stages find it: `~` is no home folder
    if not path.exists():
        raise UserError(f"{named.key}: {path} does not exist")
    return sha256_tree(path)

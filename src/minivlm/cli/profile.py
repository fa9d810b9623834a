"""`minivlm profile NAME`: merge profiles/NAME.yaml into params.yaml, comments kept.

A profile holds only the keys that it changes. params.yaml stays the one file that the pipeline reads; what a
profile changed shows in `git diff params.yaml`, and `git restore params.yaml` takes it back.
"""

import difflib
import io
from pathlib import Path
from typing import Annotated, Any

import typer

from minivlm.cli.complete import profiles
from minivlm.errors import UserError


def command(
    name: Annotated[str, typer.Argument(help="A file of profiles/, without .yaml.", autocompletion=profiles)],
    show: Annotated[bool, typer.Option("--show", help="Print what would change and stop.")] = False,
) -> None:
    """Merge profiles/NAME.yaml into params.yaml, comments kept."""
    from minivlm.paths import Paths

    paths = Paths()
    text, changes = merged(paths.params, profile_path(paths.profiles, name))
    for change in changes:
        typer.echo(change)
    if not changes:
        typer.echo(f"params.yaml already holds what profile {name} sets")
    elif not show:
        from minivlm.files import write_text

        write_text(paths.params, text)
        typer.echo(f"params.yaml: {len(changes)} values changed; `git restore params.yaml` takes them back")


def profile_path(folder: Path, name: str) -> Path:
    """profiles/NAME.yaml; UserError that names the nearest profile when there is none."""
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if name in names:
        return folder / f"{name}.yaml"
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names)}"
    raise UserError(f"no profile '{name}'; {hint}")


def merged(params: Path, profile: Path) -> tuple[str, list[str]]:
    """The text of `params` with the values of `profile` merged in, and one line `key: old → new` for each change.

    Both the present parameters and the result are checked: UserError names the key at fault and its file.
    """
    from ruamel.yaml import YAML

    from minivlm.config import load_params, parse_params, read_yaml

    load_params(params)
    yaml = YAML()
    yaml.width = 4096
    yaml.preserve_quotes = True
    values = yaml.load(params.read_text(encoding="utf-8"))
    source = f"profiles/{profile.name}"
    if not isinstance(read_yaml(profile, source) or {}, dict):
        raise UserError(f"{source}: must be a mapping of sections, as params.yaml is")
    try:
        changes = _merge(values, yaml.load(profile.read_text(encoding="utf-8")) or {}, "")
        stream = io.StringIO()
        yaml.dump(values, stream)
        plain = YAML(typ="safe", pure=True).load(stream.getvalue())
    except Exception as error:  # as `read_yaml`: tags, references and merges that a file of values does not need
        raise UserError(f"{source}: cannot be merged: {' '.join(str(error).split())[:400]}") from None
    parse_params(plain, source)
    return stream.getvalue(), changes


def _merge(values: Any, overlay: Any, prefix: str) -> list[str]:
    """Put `overlay` into the mapping `values`, key by key; mappings are merged, all else is replaced."""
    changes: list[str] = []
    for place, (key, new) in enumerate(overlay.items()):
        old = values.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            changes += _merge(old, new, f"{prefix}{key}.")
        elif key in values:
            if old != new:
                changes.append(f"{prefix}{key}: {_plain(old)} → {_plain(new)}")
                values[key] = new
        else:
            # At the front: the comment and the blank line behind a mapping's last key stay the last.
            values.insert(min(place, len(values)), key, _bare(new))
            changes.append(f"{prefix}{key}: (new) → {_plain(new)}")
    return changes


def _bare(value: Any) -> Any:
    """The value without the profile's comments and blank lines, which ruamel keeps inside its mappings."""
    return {key: _bare(each) for key, each in value.items()} if isinstance(value, dict) else value


def _plain(value: Any) -> str:
    return str(dict(value)) if isinstance(value, dict) else str(value)

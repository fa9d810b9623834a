"""`minivlm params`: the values of params.yaml, what each key means, and docs/parameters.md.

Everything is read from the typed sections (minivlm.config) and from dvc.yaml, so that nothing of it is written
twice.
"""

import difflib
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from minivlm.cli.complete import parameters

if TYPE_CHECKING:
    from minivlm.config.explain import Group, Parameter

_HEAD = """# Parameters

Every key of `params.yaml`. Written by `minivlm params --write` from the typed sections in `src/minivlm/config/`
and from `dvc.yaml`; a test fails when it is not current. `minivlm params KEY --explain` tells the same of a key or
a section, with the value it has now; `minivlm params` prints all values in force.

- `required`: the key has to be there. In a key `[]` is a place in a list, `*` any name, `{a,b}` each of the two.
- *Stages: base; then tokenize, sft*: when a value there changes, `dvc repro` runs the stage base again, and after
  it those that work with what base has written.

A key that is not known, a value of another type or out of its range, and values that are impossible together
(`src/minivlm/config/combinations.py`) end every command that reads the file, before any work starts. One line
names file, key and value; of an unknown key also the nearest valid name, or the place where the key belongs:

    error: params.yaml: unknown key 'sft.max_length' = 512; did you mean 'tokenize.max_length'?
"""


def command(
    key: Annotated[
        str,
        typer.Argument(
            help="A key or a section: sft.epochs, base.llm; all by default.", autocompletion=parameters
        ),
    ] = "",
    explain: Annotated[bool, typer.Option("--explain", help="Type, range, default and meaning of each.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Write docs/parameters.md and stop.")] = False,
) -> None:
    """Print the values in force, one `key: value` a line; those that params.yaml leaves out are marked default."""
    from minivlm.config import load_params
    from minivlm.config.explain import values
    from minivlm.paths import Paths

    paths = Paths()
    stages = Stages.read(paths.root / "dvc.yaml")
    if write:
        from minivlm.files import write_text

        write_text(paths.root / "docs" / "parameters.md", markdown(stages))
        return
    now = list(values(load_params(paths.params)))
    lines = explained(key, now, stages) if explain else shown(key, now)
    typer.echo("\n".join(lines))  # echo takes what is bold out where nobody looks at a terminal


def shown(key: str, now: list[tuple[str, Any, bool]]) -> Iterator[str]:
    """`key: value` of a key or section, as YAML has it; UserError for one that is not there."""
    found = [entry for entry in now if within(entry[0], key)]
    if not found:
        raise unknown(key, [name for name, _, _ in now])
    for name, value, stated in found:
        yield f"{typer.style(name, bold=True)}: {plain(value)}{'' if stated else '  # default'}"


def explained(key: str, now: list[tuple[str, Any, bool]], stages: "Stages") -> Iterator[str]:
    """Each key of a section, or the one, with everything that is known of it."""
    from minivlm.config.explain import groups

    wanted = _general(key)
    chosen = [(group, [p for p in group.parameters if within(p.key, wanted)]) for group in groups()]
    if not any(parameters for _, parameters in chosen):
        raise unknown(key, [p.key for group in groups() for p in group.parameters])
    for group, some in chosen:
        if some and len(some) == len(group.parameters) > 1:
            yield f"{typer.style(group.key or 'params.yaml', bold=True)}  {group.about}\n"
        for parameter in some:
            yield from _entry(parameter, key, now, stages)


def _entry(parameter: "Parameter", key: str, now: list[tuple[str, Any, bool]], stages: "Stages") -> Iterator[str]:
    has = [(name, value) for name, value, _ in now if _general(name) == parameter.key and within(name, key)]
    if len(has) == 1 and has[0][0] == parameter.key:
        present = f"now {plain(has[0][1])}"
    else:
        present = "; ".join(f"now {plain(value)} ({name})" for name, value in has) or "not set now"
    default = parameter.default if parameter.default == "required" else f"default {parameter.default}"
    yield typer.style(parameter.key, bold=True)
    yield f"    {parameter.about}"
    yield f"    {kind(parameter)}; {default}; {present}"
    yield f"    {stages.told(parameter.key)}\n"


def kind(parameter: "Parameter") -> str:
    """`whole number, 1 to 64`; `one of a, b`."""
    if parameter.kind.startswith("one of"):
        return f"{parameter.range.replace(' |', ',')}{parameter.kind.removeprefix('one of')}"
    return f"{parameter.kind}, {parameter.range}" if parameter.range else parameter.kind


def within(name: str, key: str) -> bool:
    """Whether a dotted name is the key, or lies in the section `key`."""
    return not key or name == key or name.startswith((f"{key}.", f"{key}["))


def unknown(key: str, names: list[str]) -> Exception:
    """The UserError for a key that does not exist, with the nearest that does."""
    from minivlm.errors import UserError

    asked = _general(key)
    known = sorted({*names, *(name.rsplit(".", depth)[0] for name in names for depth in (1, 2, 3))})
    same = [name for name in known if name.rpartition(".")[2] == asked.rpartition(".")[2]]
    near = difflib.get_close_matches(asked, same or known, n=1, cutoff=0 if same else 0.5)
    hint = f"did you mean {near[0]!r}?" if near else "`minivlm params --explain` tells all"
    return UserError(f"no parameter '{key}'; {hint}")


def plain(value: Any) -> str:
    """A value as YAML and JSON both have it."""
    return json.dumps(value, ensure_ascii=False)


def _general(name: str) -> str:
    """`base.texts[0].path` → `base.texts[].path`; a file's name in a mapping becomes `*`."""
    name = re.sub(r"\[\d+\]", "[]", name)
    return re.sub(r"\.files\..+\.(size|sha256)$", r".files.*.\1", name)


class Stages:
    """Which stages read a parameter, and which follow them: from dvc.yaml."""

    def __init__(self, stages: Mapping[str, Any]) -> None:
        self._reads = {name: tuple(entry.get("params", ())) for name, entry in stages.items()}
        outs = {
            name: [next(iter(out)) if isinstance(out, dict) else out for out in entry.get("outs", ())]
            for name, entry in stages.items()
        }
        self._after = {
            name: [other for other, each in stages.items() if _uses(each.get("deps", ()), made)]
            for name, made in outs.items()
        }

    @classmethod
    def read(cls, path: Path) -> "Stages":
        """From a dvc.yaml; UserError where it is none."""
        from minivlm.config import read_yaml
        from minivlm.errors import UserError

        try:
            return cls(read_yaml(path, path.name)["stages"])
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path.name}: not a file of stages ({type(error).__name__}: {error})") from None

    def told(self, key: str) -> str:
        """What runs again when the key changes, in words."""
        first = [name for name, reads in self._reads.items() if any(within(key, read) for read in reads)]
        if not first:
            return "no stage depends on it"
        then, waiting = set[str](), list(first)
        while waiting:
            new = [name for name in self._after[waiting.pop()] if name not in then]
            then.update(new)
            waiting += new
        later = [name for name in self._reads if name in then and name not in first]
        return f"stages: {', '.join(first)}" + (f"; then {', '.join(later)}" if later else "")


def _uses(deps: Any, made: list[str]) -> bool:
    return any(
        dep == out or dep.startswith(f"{out}/") or out.startswith(f"{dep}/") for dep in deps for out in made
    )


def markdown(stages: Stages) -> str:
    """docs/parameters.md: a table for each mapping; those that hold the same keys share one."""
    from minivlm.config.explain import groups

    alike: dict[Any, list[Group]] = {}
    for group in groups():
        rows = [(p.key.removeprefix(group.key), kind(p), p.default, p.about) for p in group.parameters]
        where = stages.told(group.parameters[0].key) if rows and "." in group.key else group.key and "a stage"
        if rows:
            alike.setdefault((where, *rows), []).append(group)
    return _HEAD + "".join(_table(rows, some, stages) for (_, *rows), some in alike.items())


def _table(rows: list[Any], some: "list[Group]", stages: Stages) -> str:
    """One mapping, or several that hold the same keys: what each is, what runs again, and the keys."""
    names = [f"`{group.key}`" for group in some]
    runs = {name: stages.told(group.parameters[0].key) for name, group in zip(names, some, strict=True)}
    if not some[0].key:  # each of its keys has its own
        runs = {f"`{parameter.key}`": stages.told(parameter.key) for parameter in some[0].parameters}
    abouts = dict(zip(names, (group.about.rstrip(".") for group in some), strict=True)) if some[0].key else {}
    lines = [f"\n## {_title(some)}\n", *_each(abouts), *_each(runs)]
    lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
    for key, value, default, meaning in rows:
        cells = (f"`{key.lstrip('.')}`", value, default if default == "required" else f"`{default}`", meaning)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _title(some: "list[Group]") -> str:
    """The keys; many of one form as a single one, `base.{llm,tokenizer}.pretrained`."""
    if not some[0].key:
        return "At the top"
    keys = [group.key.split(".") for group in some]
    differ = [place for place, names in enumerate(zip(*keys, strict=False)) if len(set(names)) > 1]
    if len(keys) < 3 or len({*map(len, keys)}) > 1 or len(differ) != 1:
        return ", ".join(f"`{group.key}`" for group in some)
    (place,) = differ
    keys[0][place] = f"{{{','.join(key[place] for key in keys)}}}"
    return f"`{'.'.join(keys[0])}`"


def _each(said: Mapping[str, str]) -> Iterator[str]:
    """What is said of every name: once where it is the same of all, else a line for each."""
    if len(set(said.values())) == 1:
        yield _wrapped(f"{_raised(next(iter(said.values())))}.", "") + "\n"
    elif said:
        yield "\n".join(_wrapped(f"- {name}: {_lowered(text)}.", "  ") for name, text in said.items()) + "\n"


def _wrapped(text: str, indent: str) -> str:
    return textwrap.fill(text, 115, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _raised(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _lowered(sentence: str) -> str:
    """With a small first letter, unless the first word is a name in capitals."""
    return sentence if sentence[1:2].isupper() else sentence[:1].lower() + sentence[1:]

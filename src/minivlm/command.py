"""How every command of the project behaves: `minivlm`, its subcommands, and those of the stages.

Chinese under any locale, plain help of 80 columns, usage errors and all others in one line, `--verbose` for the
traceback. typer's own boxes want 60 ms more for rich, and cut what they frame.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup
from typer.exceptions import TyperException

from minivlm.exits import EXIT_INTERRUPTED, EXIT_USER_ERROR, VERBOSE, end_undisturbed, one_line_errors
from minivlm.terminal import colours, prepare_streams

_KINDS = {"int": "N", "float": "NUMBER", "str": "TEXT", "Path": "PATH"}


def _show_tracebacks(asked: bool) -> bool:
    if asked:
        os.environ[VERBOSE] = "1"  # of the processes that this one starts, too
    return asked


Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", help="Show the traceback of an error.", callback=_show_tracebacks, expose_value=False
    ),
]
"""The option; of a group every subcommand takes it too, so that it may stand at the end."""


class _Manners:
    """What commands and groups share; stands before typer's class."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        return super().make_context(*arguments, **{"color": colours(), **options})  # type: ignore[misc]

    def main(self, *arguments: Any, standalone_mode: bool = True, **options: Any) -> Any:
        """Run, and end this process with the exit code; with standalone_mode=False, as typer does."""
        prepare_streams()
        try:
            ended = super().main(*arguments, standalone_mode=False, **options)  # type: ignore[misc]
        except TyperException as error:  # of the command line itself
            if not standalone_mode:
                raise
            print(f"error: {_usage(error)}", file=sys.stderr)
            ended = EXIT_USER_ERROR
        if not standalone_mode:
            return ended
        if ended == EXIT_INTERRUPTED:
            end_undisturbed()
        sys.exit(ended if isinstance(ended, int) else 0)

    def invoke(self, context: Any) -> Any:
        with one_line_errors():
            return super().invoke(context)  # type: ignore[misc]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, options and, of a group, commands; typer's type names are left out, as the names say it."""
        records: dict[str, list[tuple[str, str]]] = {"argument": [], "option": []}
        for parameter in self.get_params(ctx):  # type: ignore[attr-defined]
            if record := parameter.get_help_record(ctx):
                name = re.sub(r" <\S+>$", "", record[0])
                records[parameter.param_type_name].append((typer.style(name, fg="cyan"), record[1]))
        for kind, rows in records.items():
            if rows:
                with formatter.section(typer.style(f"{kind.capitalize()}s", bold=True)):
                    formatter.write_dl(rows)


class Command(_Manners, TyperCommand):
    """A command, of a group or by itself as those of the stages are."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for parameter in self.params:
            if parameter.metavar is None:
                parameter.metavar = _value_name(parameter)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """As everybody writes them: `FILE`, not typer's `{FILE}`."""
        return [re.sub(r"^{(.*)}", r"\1", piece) for piece in super().collect_usage_pieces(ctx)]


class Group(_Manners, TyperGroup):
    """A command with subcommands, which behave as it does."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        shared = [option for option in self.params if "--verbose" in option.opts]
        for command in self.commands.values():
            command.params += shared

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """With the first sentence of each command, whole: typer cuts it off in the middle."""
        super().format_options(ctx, formatter)
        shown = [command for command in self.commands.values() if not command.hidden]
        with formatter.section(typer.style("Commands", bold=True)):
            rows = [
                (typer.style(command.name, fg="cyan"), _first_sentence(command.help or "")) for command in shown
            ]
            formatter.write_dl(rows)


def _usage(error: TyperException) -> str:
    """What is wrong with a command line, and where to read about it."""
    message = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{message}; see {context.command_path} --help" if context else message


def _first_sentence(text: str) -> str:
    first = " ".join(text.split("\n\n")[0].split())
    return first[: first.find(". ") + 1] or first


def _value_name(parameter: Any) -> str | None:
    """What a value is called in the help: FILE, N, NUMBER, PATH, a|b; None for a flag, which has none."""
    if isinstance(parameter, TyperArgument):
        return parameter.name.upper()
    if parameter.is_flag:
        return None
    kind = parameter.type_descriptor
    names = map(str, kind.choices) if kind.is_choice else re.findall(r"\w+", parameter.bare_type())[-1:]
    return "|".join(_KINDS.get(name, name) for name in names)


class App(typer.Typer):
    """A typer.Typer whose commands have these manners."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"cls": Group, "pretty_exceptions_enable": False, "rich_markup_mode": None, **options})

    def command(self, name: str | None = None, **options: Any) -> Any:
        return super().command(name, **{"cls": Command, **options})

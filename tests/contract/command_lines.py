"""Whether a command line would be taken: by minivlm, a stage, a benchmark, make or DVC. Nothing is run."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import typer.main

from tests.contract.imports import ROOT


def fault(words: Sequence[str]) -> str:
    """What is wrong with a command's words; "" when it would be taken. git and `.` are not looked at."""
    program, *rest = words
    if program == "minivlm":
        return _typer("minivlm.cli.main", rest)
    if program == "make":
        targets = {word for word in rest if "=" not in word}
        return f"no target {sorted(targets - _targets())}" if targets - _targets() else ""
    if program == "dvc":
        return _dvc(rest)
    if program == "python" and rest[:1] == ["-m"]:
        module = rest[1]
        if module.split(".")[0] == "pipelines":
            return _typer(module, rest[2:])
        if module.split(".")[0] in ("benchmarks", "tests", "minivlm"):
            source = ROOT / ("src" if module.startswith("minivlm") else "") / f"{module.replace('.', '/')}.py"
            if not source.exists() and not (source.with_suffix("") / "__main__.py").exists():
                return f"no module {module}"
            if source.exists() and "typer.run(main)" in source.read_text(encoding="utf-8"):
                app = typer.Typer()
                app.command()(importlib.import_module(module).main)
                return _parsed(typer.main.get_command(app), module, rest[2:])
            return _options_of_source(source, rest[2:])
    return ""


def _typer(module: str, words: Sequence[str]) -> str:
    return _parsed(typer.main.get_command(importlib.import_module(module).app), module, words)


def _parsed(command: Any, path: str, words: Sequence[str]) -> str:
    """Parsed as the command would, which is not called. Typer has a click of its own: no class of it is named."""
    args = list(words)
    while (commands := getattr(command, "commands", None)) is not None:
        if not args or args[0].startswith("-"):
            return "" if args in ([], ["--help"]) or args[0] in _options(command) else f"no option {args[0]}"
        if args[0] not in commands:
            return f"no command {args[0]} of {path}"
        command, path, args = commands[args[0]], args[0], args[1:]
    try:
        if "--help" not in args:
            command.make_context(path, args)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        return str(error.format_message())
    return ""


def _options(command: Any) -> set[str]:
    return {name for each in command.params for name in (*each.opts, *each.secondary_opts)}


def _dvc(words: Sequence[str]) -> str:
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
            _dvc_parser().parse_args([word for word in words if word != "--help"])
    except (SystemExit, Exception) as error:  # DVC prints its usage and raises an error of its own
        return f"DVC does not take it ({type(error).__name__})"
    return ""


@cache
def _dvc_parser() -> Any:
    return importlib.import_module("dvc.cli.parser").get_main_parser()


@cache
def _targets() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z]+):", text, flags=re.MULTILINE))


def _options_of_source(source: Path, words: Sequence[str]) -> str:
    """Programs with argparse: each option has to stand in their source, or beside it in the folder."""
    folder = source.parent if source.exists() else source.with_suffix("")
    text = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    missing = [word for word in words if word.startswith("--") and f'"{word.partition("=")[0]}"' not in text]
    return f"no option {missing}" if missing else ""

"""What `minivlm chat` does with a line: a question is answered piece by piece, a command is obeyed."""

from __future__ import annotations

import contextlib
import glob
import locale
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from minivlm.cli.encoding import as_typed
from minivlm.errors import UserError
from minivlm.generation.conversation import Conversation
from minivlm.generation.opening import read_picture
from minivlm.generation.streaming import visible
from minivlm.generation.writing import Sampling
from minivlm.terminal import escaped

if TYPE_CHECKING:
    from PIL import Image

PROMPT = "> "
COMMANDS = {
    "/image": ("PATH", "begin anew, about this picture"),
    "/add": ("PATH", "one more picture, for the next question"),
    "/reset": ("", "forget what was said; the pictures stay"),
    "/help": ("", "this list"),
    "/quit": ("", "end the chat, as Ctrl-D does"),
}


class Chat:
    """A conversation and the terminal or pipe that it is held on; answers go to stdout, all else to stderr.

    `faults`: lines that could not be obeyed or answered.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        max_new_tokens: int,
        sampling: Sampling,
        interactive: bool,
        speed: bool,
    ) -> None:
        self.faults = 0
        self._new = lambda: Conversation(model, processor)
        self.conversation = self._new()
        self._max_new_tokens, self._sampling = max_new_tokens, sampling
        self._interactive, self._speed = interactive, speed

    def take(self, line: str) -> bool:
        """Obey or answer one line; False for the one that ends the chat. What is wrong with it is said."""
        line = as_typed(line).strip()
        try:
            if line.startswith("/"):
                return self._obey(*line.partition(" ")[::2])
            if line:
                self._answer(line)
        except UserError as error:
            self.faults += 1
            typer.echo(f"error: {escaped(str(error))}", err=True)
        return True

    def note(self, text: str) -> None:
        """Something beside the answers."""
        typer.secho(text, err=True, dim=True)

    def _answer(self, question: str) -> None:
        try:
            with self.conversation.ask(
                question, max_new_tokens=self._max_new_tokens, sampling=self._sampling
            ) as answer:
                for piece in answer:
                    typer.echo(visible(piece), nl=False)
        except KeyboardInterrupt:
            if not self._interactive:
                raise
            typer.echo()
            self.note("stopped")
            return
        typer.echo()
        if forgotten := self.conversation.forgotten:
            turns = "turn was" if forgotten == 1 else f"{forgotten} turns were"
            self.note(f"the model has no room for all that was said: the oldest {turns} left out")
        if self._speed:
            self.note(answer.meter.shown())

    def _obey(self, command: str, rest: str) -> bool:
        if command in ("/quit", "/exit"):
            return False
        if command == "/help":
            for name, (value, meaning) in COMMANDS.items():
                typer.echo(f"  {f'{name} {value}':<12}  {meaning}", err=True)
        elif command == "/reset":
            self.conversation.reset()
        elif command in ("/image", "/add"):
            picture = open_picture(_named(rest))
            if command == "/image":
                self.conversation = self._new()
            self.conversation.show(picture)
        else:
            hint = "/image PATH shows a picture" if "/" in command[1:] else "/help lists them"
            raise UserError(f"no command {command!r}; {hint}")
        return True


def open_picture(path: Path) -> Image.Image:
    """The picture upright, as RGB; UserError when there is none."""
    picture = read_picture(path)
    if isinstance(picture, str):
        raise UserError(f"{path}: {picture}")
    return picture


def questions(interactive: bool) -> Iterator[str]:
    """The lines of standard input; on a terminal with a prompt, a history and completion by Tab."""
    if not interactive:
        yield from sys.stdin
        return
    among_answers = not sys.stdout.isatty()  # there Python would write the prompt
    if not among_answers:
        _prepare_readline()
    while True:
        try:
            if among_answers:
                typer.echo(PROMPT, nl=False, err=True)
            yield input("" if among_answers else PROMPT)
        except EOFError:
            typer.echo(err=True)
            return
        except KeyboardInterrupt:
            typer.echo(err=True)
            typer.secho("Ctrl-D or /quit ends the chat", err=True, dim=True)


def _prepare_readline() -> None:
    """readline for `input`, where Python has it: the arrows bring back lines, Tab completes commands and paths."""
    if (
        locale.nl_langinfo(locale.CODESET) == "ANSI_X3.4-1968"
    ):  # of LC_ALL=C: it would take Chinese for key strokes
        os.environ["LC_ALL"] = "C.UTF-8"
        with contextlib.suppress(locale.Error):
            locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    try:
        import readline
    except ImportError:
        return
    found: list[str] = []

    def complete(text: str, number: int) -> str | None:
        """The completer that readline asks, with 0, 1, … until there is no more."""
        if number == 0:
            found[:] = _completions(readline.get_line_buffer(), text)
        return found[number] if number < len(found) else None

    readline.set_completer_delims(" ")
    readline.set_completer(complete)
    readline.parse_and_bind("tab: complete")


def _completions(line: str, text: str) -> list[str]:
    """What `text`, the word at the end of `line`, may become."""
    if line == text:
        return [name for name in COMMANDS if text.startswith("/") and name.startswith(text)]
    if not line.startswith(("/image ", "/add ")):
        return []
    found = sorted(glob.glob(glob.escape(os.path.expanduser(text)) + "*"))
    return [f"{each}/" if os.path.isdir(each) else each for each in found]


def _named(text: str) -> Path:
    """The path after a command, as people write or drag it there: quoted, with ~ or spaces."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    if not text:
        raise UserError("which picture? /image PATH")
    return Path(os.path.expanduser(text))

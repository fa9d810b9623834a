"""`minivlm chat`: questions about a picture and answers as they are written, over several turns."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from minivlm.cli.answering_model import answering_model


def command(
    picture: Annotated[Path | None, typer.Argument(help="What to ask about; /image shows another.")] = None,
    model: Annotated[Path | None, typer.Option(help="A LLaVA directory; artifacts/sft/model by default.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length of an answer at most.")] = 128,
    temperature: Annotated[float, typer.Option(help="0: the most probable token, always; 1: as probable.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Draw from the most probable tokens of so much together.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Draw the same again.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    speed: Annotated[
        bool | None, typer.Option(help="How fast each answer was, on standard error; by default on a terminal.")
    ] = None,
) -> None:
    """Talk about a picture. On a terminal Ctrl-C ends an answer and Ctrl-D the chat; /help lists the commands.

    Questions may be piped in, one a line; the answers then come one after another, and exit code 2 says that a
    question could not be answered.
    """
    from minivlm.cli.chat_loop import Chat, open_picture, questions
    from minivlm.generation.loading import load_measured
    from minivlm.generation.writing import Sampling
    from minivlm.paths import short
    from minivlm.terminal import escaped, standard_input

    sampling = Sampling(temperature, top_p, seed)
    terminal = standard_input().isatty()
    shown = open_picture(picture) if picture else None  # first: a wrong path is told at once
    directory = answering_model(model)
    loaded, processor, loading = load_measured(directory, device)
    chat = Chat(
        loaded,
        processor,
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        interactive=terminal,
        speed=sys.stderr.isatty() if speed is None else speed,
    )
    if shown:
        chat.conversation.show(shown)
    if terminal:
        chat.note(f"{escaped(short(directory))}: {loading.shown()}")
        chat.note("Ask, or /help; Ctrl-C ends an answer, Ctrl-D the chat.")
        if not shown:
            chat.note("No picture yet: /image PATH")
    for line in questions(terminal):
        if not chat.take(line):
            break
    if chat.faults and not terminal:
        raise typer.Exit(2)

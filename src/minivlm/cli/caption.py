"""`minivlm caption`: what a model says of pictures, one line for each."""

import json
import os
import stat
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from minivlm.cli.answering_model import answering_model
from minivlm.cli.encoding import as_typed
from minivlm.terminal import decoded, escaped, is_unseen, standard_input


def command(
    pictures: Annotated[
        list[str] | None,
        typer.Argument(
            help="Pictures, folders of pictures, patterns, or - for standard input.", show_default=False
        ),
    ] = None,
    model: Annotated[Path | None, typer.Option(help="A LLaVA directory; artifacts/sft/model by default.")] = None,
    question: Annotated[
        str | None, typer.Option(help="What is asked; evaluate.question_sft of params.yaml by default.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length of an answer at most.")] = 128,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures computed at once.")] = 8,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object for each picture.")] = False,
    speed: Annotated[bool, typer.Option(help="At the end, how fast it was, on standard error.")] = True,
) -> None:
    """Caption pictures: one line each, path and caption; a picture that cannot be read is named, the rest go on.

    By standard input (-) comes one picture, or a list of paths, one a line. Exit code 2 when a picture could not
    be read, or when there is no model.
    """
    from minivlm.generation.finding import find_pictures

    sources = find_pictures(pictures or [], lambda most: standard_input().buffer.read(most))
    directory = answering_model(model)
    from minivlm.generation.caption_files import caption_files
    from minivlm.generation.loading import load_measured
    from minivlm.generation.speed import Meter
    from minivlm.progress import Progress

    loaded, processor, loading = load_measured(directory, device)
    asked = default_question() if question is None else as_typed(question)
    meter, faults, start = Meter(), 0, time.perf_counter()
    lines = caption_files(
        loaded,
        processor,
        sources,
        asked,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        meter=meter,
    )
    bar = len(sources) > batch_size and _has_room_for_a_bar()
    with Progress("caption", len(sources), "pictures") if bar else nullcontext() as progress:
        for line in lines:
            name = decoded(str(line.picture))
            if as_json:
                typer.echo(_json(line._asdict() | {"picture": name}))
            elif line.error is None:
                typer.echo(f"{escaped(name)}\t{line.caption}")
            else:
                typer.echo(f"error: {escaped(f'{name}: {line.error}')}", err=True)
            faults += line.error is not None
            if progress:
                progress.advance(1)
    seconds = time.perf_counter() - start
    if speed:
        captioned = len(sources) - faults
        rate = f", {captioned / seconds:,.1f} a second" if captioned else ""
        parts = [f"{_pictures(captioned)}{rate}", meter.shown()]
        typer.secho(" · ".join(filter(None, [*parts, loading.shown()])), err=True, dim=True)
    if faults:
        raise typer.Exit(2)


def default_question() -> str:
    """What a sft model is asked where nothing else is said."""
    from minivlm.config import load_params
    from minivlm.paths import Paths

    return load_params(Paths().params).evaluate.question_sft


def _json(values: dict[str, Any]) -> str:
    """One line of JSON: Chinese as it is; what a terminal would obey and bytes that are no text escaped."""
    text = json.dumps(values, ensure_ascii=False)
    return "".join(json.dumps(c)[1:-1] if is_unseen(c) else c for c in text)


def _has_room_for_a_bar() -> bool:
    """Whether the captions go to a file; in a terminal or a pipe they may show themselves how far it is."""
    if sys.stderr is None:  # closed
        return False
    return sys.stderr.isatty() and stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode)


def _pictures(count: int) -> str:
    return f"{count:,} picture{'' if count == 1 else 's'}"

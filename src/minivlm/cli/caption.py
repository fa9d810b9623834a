"""`minivlm caption`: what a model says of pictures, one line for each."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def command(
    pictures: Annotated[list[Path], typer.Argument(help="Pictures, and folders of pictures.")],
    model: Annotated[Path | None, typer.Option(help="A LLaVA directory; artifacts/sft/model by default.")] = None,
    question: Annotated[
        str | None, typer.Option(help="What is asked; evaluate.question_sft of params.yaml by default.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length of an answer at most.")] = 128,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures computed at once.")] = 8,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object for each picture.")] = False,
) -> None:
    """Caption pictures: one line each, path and caption; a picture that cannot be read is named, the rest go on.

    Exit code 2 when a picture could not be read, or when there is no model.
    """
    from minivlm.stage import one_line_errors

    for stream in (sys.stdout, sys.stderr):  # Chinese, also under LC_ALL=C
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    with one_line_errors():
        from minivlm.evaluation.caption_files import caption_files, find_pictures
        from minivlm.evaluation.captions import load_model
        from minivlm.paths import Paths

        paths = find_pictures(pictures)
        loaded, processor = load_model(model or Paths().model("sft"), device)
        asked = _default_question() if question is None else _as_typed(question)
        faults = 0
        for line in caption_files(
            loaded, processor, paths, asked, batch_size=batch_size, max_new_tokens=max_new_tokens
        ):
            shown = _as_typed(str(line.picture))
            if as_json:
                typer.echo(json.dumps(line._asdict() | {"picture": shown}, ensure_ascii=False))
            elif line.error is None:
                typer.echo(f"{shown}\t{line.caption}")
            else:
                typer.echo(f"error: {shown}: {line.error}", err=True)
            faults += line.error is not None
    if faults:
        raise typer.Exit(2)


def _default_question() -> str:
    from minivlm.config import load_params
    from minivlm.paths import Paths

    return load_params(Paths().params).evaluate.question_sft


def _as_typed(argument: str) -> str:
    """An argument as UTF-8, which Python reads byte by byte under a C locale; what is none becomes U+FFFD."""
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

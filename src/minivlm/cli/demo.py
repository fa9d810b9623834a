"""`minivlm demo`: a page on which the models are tried by clicking, on this machine alone."""

import contextlib
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from minivlm.exits import end_undisturbed
from minivlm.ports import HOST, LAST


def command(
    model: Annotated[
        Path | None, typer.Option(help="A LLaVA directory; by default those of pretrain and sft that are there.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=LAST, help="Port; the next free one when it is taken.")] = 7860,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length of an answer at most.")] = 128,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Try the models in a browser: drop a picture, ask, watch the answer grow. On this machine alone."""
    from minivlm.config import load_params
    from minivlm.errors import UserError
    from minivlm.evaluation.questions import read_questions
    from minivlm.paths import Paths
    from minivlm.serving.demo import Example, import_gradio, serve
    from minivlm.serving.demo_answers import Choice

    import_gradio()  # first: what is missing is told at once
    paths = Paths()
    asked = load_params(paths.params).evaluate
    offered = [
        Choice("微调后 sft", paths.model("sft"), asked.question_sft),
        Choice("预训练后 pretrain", paths.model("pretrain"), asked.question_pretrain),
    ]
    choices = [choice for choice in offered if (choice.directory / "config.json").is_file()]
    if model:
        choices = [Choice(str(model), model, asked.question_sft)]
    if not choices:
        raise UserError("no model to show: train one (make repro), or name one with --model")
    pictures = read_questions(paths.questions, paths.data / "eval_images") if paths.questions.exists() else []
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())  # then too what people uploaded is removed
    with contextlib.suppress(KeyboardInterrupt):
        serve(
            choices,
            [Example(each.path, each.title) for each in pictures if each.path.exists()],
            host=HOST,
            port=port,
            device=device,
            max_new_tokens=max_new_tokens,
            ready=lambda address: typer.echo(f"demo: {address}  (Ctrl-C ends it)"),
            wait=ended.wait,
        )
    end_undisturbed()

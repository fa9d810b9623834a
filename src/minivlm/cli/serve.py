"""`minivlm serve`: a model behind an OpenAI-compatible address, on this machine alone."""

import json
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from minivlm.cli.answering_model import answering_model
from minivlm.exits import end_undisturbed
from minivlm.paths import Paths, short
from minivlm.terminal import escaped

_NEEDED = ("fastapi", "uvicorn", "openai")  # what transformers' server is built from


def command(
    model: Annotated[Path | None, typer.Option(help="A LLaVA directory; artifacts/sft/model by default.")] = None,
    name: Annotated[
        str | None, typer.Option(help="What clients call the model; minivlm-<stage> by default.")
    ] = None,
    host: Annotated[str, typer.Option(help="Interface to listen on; any but loopback is open to others.")] = (
        "127.0.0.1"
    ),
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; by default the first free one from 8000 on.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Serve a model with OpenAI's chat completions: pictures as data URIs, answers whole or streamed.

    Ends with Ctrl-C or SIGTERM, exit code 0; 2 when there is no model or no port.
    """
    from minivlm.errors import UserError

    if missing := [each for each in _NEEDED if find_spec(each) is None]:
        said = f"minivlm serve needs {', '.join(missing)}"
        raise UserError(f"{said}; install the extra `serve`: pip install -c constraints.txt -e '.[serve]'")
    paths, directory = Paths(), answering_model(model)
    from minivlm.serving.door import is_loopback
    from minivlm.serving.server import serve

    if not is_loopback(host):
        typer.echo(f"warning: {host} may be reached by others, and nobody is asked who they are", err=True)

    question = _question(paths)

    def ready(served: str, address: str, seconds: float) -> None:
        typer.echo(ready_line(served, directory, address, seconds))
        typer.echo(_example(address, served, paths, question))
        sys.stdout.flush()

    serve(directory, name=name, host=host, port=port, device=device, ready=ready)
    end_undisturbed()
    typer.echo("stopped")


def ready_line(served: str, directory: Path, address: str, seconds: float) -> str:
    """That requests are answered: the model's name, where it comes from, where it is."""
    return f"{served} ({escaped(short(directory))}) at {address}/v1, loaded in {seconds:.1f} s; Ctrl-C ends it"


def _question(paths: Paths) -> str:
    """What the example asks: as the model was evaluated; where params.yaml cannot be read, which serving does not
    need, something that any model can be asked."""
    from minivlm.config import load_params
    from minivlm.errors import UserError

    try:
        return load_params(paths.params).evaluate.question_sft
    except UserError:
        return "请详细描述这张图片。"


def _example(address: str, model: str, paths: Paths, question: str) -> str:
    """A request to paste into a shell, and what a Python program begins with."""
    picture = paths.data / "eval_images" / "01-sunset.jpg"
    file = shlex.quote(short(picture)) if picture.is_file() else "photo.jpg"
    shown = {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,@picture@"}}
    asked = {"role": "user", "content": [shown, {"type": "text", "text": question}]}
    body = json.dumps({"model": model, "messages": [asked]}, ensure_ascii=False)
    template = body.replace("\\", "\\\\").replace("%", "%%").replace("@picture@", "%s")  # as printf reads it
    return (
        f"  printf {shlex.quote(template)} \\\n"
        f"    \"$(base64 < {file} | tr -d '\\n')\" |\n"
        f"    curl -sS {address}/v1/chat/completions -H 'Content-Type: application/json' -d @-\n"
        f'  from openai import OpenAI; client = OpenAI(base_url="{address}/v1", api_key="none")'
    )

"""How fast a served model answers, as OpenAI's client sees it: time to the first token, tokens a second.

    python -m benchmarks.serving

Real servers on loopback, each in a process of its own, asked by the `openai` client with a picture as a data: URI
and streaming, one at a time and four at once (the client computes on the same machine). `minivlm serve` with
a model of true size and random weights and with the trained one, and `transformers serve` with the trained one.
"""

from __future__ import annotations

import argparse
import io
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from minivlm.data.data_uri import data_uri
from minivlm.ports import HOST, free_port

if TYPE_CHECKING:
    from openai import OpenAI
    from PIL import Image

QUESTION = "请详细描述这张图片。"
RANDOM = "26m-random"
NAME = "minivlm"  # what its own server calls a model
READY = 120.0  # seconds that a server may take to begin


class Server(NamedTuple):
    """A server that answers: its address with /v1, what it calls the model, seconds from its start to that."""

    address: str
    model: str
    ready: float


class Side(NamedTuple):
    """What is measured: a server, how its answers are drawn, and what the rows of it are called."""

    server: Server
    temperature: float = 0.0
    name: str = ""
    model: str = ""


class Timed(NamedTuple):
    """One streamed answer, in seconds from sending the request; tokens as the server counts them."""

    first: float  # text that came
    end: float
    tokens: int

    @property
    def rate(self) -> float | None:
        """Tokens a second after the first; None of an answer that came in one piece."""
        return (self.tokens - 1) / (self.end - self.first) if self.end > self.first else None


def minivlm_serve(directory: Path, device: str) -> AbstractContextManager[Server]:
    """`minivlm serve` on a free port."""
    program = [sys.executable, "-m", "minivlm.cli.main", "serve", "--model", str(directory), "--name", NAME]
    return _serving([*program, "--device", device], NAME)


def transformers_serve(directory: Path, device: str) -> AbstractContextManager[Server]:
    """`transformers serve` with this model alone, on a free port."""
    program = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(directory)]
    return _serving([*program, "--device", device], str(directory))


@contextmanager
def _serving(command: Sequence[str], model: str) -> Iterator[Server]:
    """A server from the time that it answers on; RuntimeError when it ends or has not begun within READY."""
    port = free_port()
    address = f"http://{HOST}:{port}"
    begun = time.monotonic()
    with subprocess.Popen(
        [*command, "--host", HOST, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            while not _answers(address):
                if process.poll() is not None or time.monotonic() - begun > READY:
                    raise RuntimeError(f"{' '.join(command)}: it did not begin within {READY:g} s")
                time.sleep(0.05)
            yield Server(f"{address}/v1", model, time.monotonic() - begun)
        finally:
            process.kill()  # nothing of it is to be kept, and one that hangs ends too


def _answers(address: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=1):
        return True
    return False


def ask(client: OpenAI, model: str, picture: str, *, tokens: int, temperature: float, seed: int) -> Timed:
    """Stream one answer about a picture (a data: URI)."""
    content = [{"type": "image_url", "image_url": {"url": picture}}, {"type": "text", "text": QUESTION}]
    request: Any = {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": tokens,
        "temperature": temperature,
        "seed": seed,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    start = time.perf_counter()
    first, counted = None, 0
    for chunk in client.chat.completions.create(**request):
        if first is None and chunk.choices and chunk.choices[0].delta.content:
            first = time.perf_counter() - start
        counted = chunk.usage.completion_tokens if chunk.usage else counted
    end = time.perf_counter() - start
    return Timed(first or end, end, counted)


def measure(
    sides: Sequence[Side], pictures: Sequence[str], *, tokens: int, repeats: int, at_once: Sequence[int] = (1, 4)
) -> list[dict[str, Any]]:
    """A row for each side and number of requests at once, after as many to warm up; `pictures` are data: URIs.

    The sides take turns, round by round, so that what else the machine does falls on all of them. Medians over all
    answers: `first_token_seconds`, `tokens_per_second` of the tokens after the first; over the rounds:
    `answers_per_second`.
    """
    from openai import OpenAI

    clients = [OpenAI(base_url=s.server.address, api_key="none", max_retries=0, timeout=600) for s in sides]
    rows = []
    for together in at_once:
        answers: list[list[Timed]] = [[] for _ in sides]
        rounds: list[list[float]] = [[] for _ in sides]
        with ThreadPoolExecutor(together) as pool:
            for number in range(1 + repeats):
                for place, (side, client) in enumerate(zip(sides, clients, strict=True)):

                    def one(seed: int, side: Side = side, client: OpenAI = client) -> Timed:
                        picture, server = pictures[seed % len(pictures)], side.server
                        drawn: dict[str, Any] = {"temperature": side.temperature, "seed": seed}
                        return ask(client, server.model, picture, tokens=tokens, **drawn)

                    begun = time.perf_counter()
                    done = list(pool.map(one, range(number * together, (number + 1) * together)))
                    if number:  # the first one warms up
                        answers[place] += done
                        rounds[place].append(together / (time.perf_counter() - begun))
        told = zip(sides, answers, rounds, strict=True)
        rows += [_row(side, together, timed, took) for side, timed, took in told]
    for client in clients:
        client.close()
    return sorted(rows, key=lambda row: (row["server"], row["model"], row["at_once"]))


def _row(side: Side, together: int, answers: Sequence[Timed], rounds: Sequence[float]) -> dict[str, Any]:
    rates = [each.rate for each in answers if each.rate is not None]
    return {
        "server": side.name,
        "model": side.model,
        "ready_seconds": side.server.ready,
        "at_once": together,
        "first_token_seconds": statistics.median(each.first for each in answers),
        "tokens_per_second": statistics.median(rates) if rates else None,
        "answers_per_second": statistics.median(rounds),
        "tokens_of_an_answer": statistics.median(each.tokens for each in answers),
    }


def picture_uri(picture: Image.Image) -> str:
    """A picture as clients send it."""
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return data_uri(stream.getvalue(), "PNG")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    given = _parser().parse_args(arguments)
    from benchmarks.generation import open_pictures, write_random
    from benchmarks.record import destination, record, table
    from benchmarks.setting import profile
    from minivlm.device import resolve_device
    from minivlm.paths import Paths

    results = destination(given.directory, given.quick)
    device = resolve_device(given.device)
    tokens, repeats = (4, 1) if given.quick else (given.tokens, given.repeats)
    trained = given.model or Paths().model("sft")
    with tempfile.TemporaryDirectory(prefix="minivlm-serving-") as folder, ExitStack() as stack:
        directory, setting = write_random(Path(folder), profile()["base"])
        pictures = [picture_uri(picture) for picture in open_pictures(setting)]
        # Random weights are drawn from: greedy, they may write one special token for ever.
        random = Side(stack.enter_context(minivlm_serve(directory, device)), 1.0, "minivlm serve", RANDOM)
        sides = [random]
        if (trained / "config.json").is_file():
            for name, serve in (("minivlm serve", minivlm_serve), ("transformers serve", transformers_serve)):
                sides.append(Side(stack.enter_context(serve(trained, device)), 0.0, name, "trained"))
        else:
            print(f"{trained}: no model there; the random one alone is measured")
        rows = measure(sides, pictures, tokens=tokens, repeats=repeats)
    table([_shown(row) for row in rows], f"Streamed answers of at most {tokens} tokens")
    print(
        record(
            "serving", {"servers": rows, "tokens": tokens, "device": device}, repeats=repeats, directory=results
        )
    )


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "server": row["server"],
        "model": row["model"],
        "at once": row["at_once"],
        "ready, s": row["ready_seconds"],
        "first token, ms": 1000 * row["first_token_seconds"],
        "tokens/s": row["tokens_per_second"],
        "answers/s": row["answers_per_second"],
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--tokens", type=int, default=32, help="new tokens of every answer at most")
    parser.add_argument("--repeats", type=int, default=9, help="timed rounds")
    parser.add_argument("--model", type=Path, help="a LLaVA directory; artifacts/sft/model by default")
    parser.add_argument("--quick", action="store_true", help="one round of 4 tokens: to see that it runs")
    parser.add_argument("--directory", type=Path, help="where serving.json goes: benchmarks/results by default")
    return parser


if __name__ == "__main__":
    from benchmarks.record import run

    run(main)

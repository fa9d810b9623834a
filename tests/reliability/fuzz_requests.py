"""Requests to `minivlm serve`, in process: bodies, pictures, settings, headers and paths, and clients that leave.

A request is taken with a 200 or refused with a 4xx whose body OpenAI's clients read. Anything else is a fault: a
5xx, a line of the log that is no line or no plain information, a server that answers nothing afterwards.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

from minivlm.errors import UserError
from tests.reliability.fuzz_kind import Kind
from tests.reliability.fuzz_mutation import mutate_bytes, mutate_png, mutate_value

_CHAT, _NAME = "/v1/chat/completions", "minivlm-tiny"
_PATHS = (
    *("/v1/models", f"/v1/models/{_NAME}", "/v1/models/%00", "/health", "/", "/docs", "/v1/completions", "/reset"),
    *(
        "/load_model",
        "/v1/chat/completions/",
        "//v1/chat/completions",
        "/v1/chat/../models",
        "/\n200  GET",
        "/\ud7ff",
    ),
)
_HEADERS = (
    *(
        ("content-type", "text/plain"),
        ("content-type", "application/json; charset=utf-16"),
        ("content-type", "\xff"),
    ),
    *(("content-type", "multipart/form-data"), ("content-length", "-1"), ("content-length", "9" * 40)),
    *(("x-request-id", "\xff\x01\r\nX: y"), ("x-request-id", "x" * 9000), ("accept", "text/html"), ("host", "")),
    *(("content-encoding", "gzip"), ("authorization", "Bearer \xe9"), ("transfer-encoding", "chunked")),
)
_WORDS = (
    b'"stream":true,',
    b'"n":1,',
    b"null",
    b"NaN",
    b"1e999",
    b"9" * 5000,
    b'"\\ud800"',
    b"[" * 900,
    b"\xff",
    b"\0",
)
_TEXTS = (
    "<image>",
    "<|im_end|>\n<|im_start|>assistant\n",
    "\u202e\x1b[31m",
    "海" * 700,
    "\0",
    "🙂",
    "{{ 7 }}",
    " ",
)


def _prepare(folder: Path, count: int, seed: int) -> list[tuple[bytes, dict[str, Any]]]:
    """Sound requests, each with the picture that is in it."""
    import torch

    from tests.unit.evaluation.toys import picture_bytes, write_llava

    torch.set_num_threads(1)
    write_llava(folder / "model")
    picture = picture_bytes(1)
    shown = {"role": "user", "content": [{"type": "text", "text": "请描述"}, _part(picture)]}
    talk = [shown, {"role": "assistant", "content": "好"}, {"role": "user", "content": "还有呢？"}]
    settings: list[dict[str, Any]] = [
        {"messages": [shown], "max_tokens": 4},
        {"messages": talk, "max_completion_tokens": 3, "stream": True, "stream_options": {"include_usage": True}},
        {"messages": [{"role": "system", "content": "短"}, shown], "max_tokens": 5, "temperature": 0.7, "seed": 1},
        {"messages": talk, "max_tokens": 6, "top_p": 0.9, "temperature": 1.2, "stop": ["。", "\n"], "n": 1},
        {"messages": [shown], "max_tokens": 2, "user": "x", "tools": [], "logprobs": False, "stream": True},
    ]
    return [(picture, {"model": _NAME} | each) for each in settings]


def _part(picture: bytes) -> dict[str, Any]:
    url = "data:image/png;base64," + base64.b64encode(picture).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def _make(prepared: list[tuple[bytes, dict[str, Any]]], random: Random, number: int, folder: Path) -> None:
    picture, known = random.choice(prepared)
    request: Any = copy.deepcopy(known)
    head: dict[str, Any] = {"method": "POST", "path": _CHAT, "headers": [], "leave": None}
    chance = random.random()
    if chance < 0.45:
        request = mutate_value(request, random)
    elif chance < 0.6:
        changed = mutate_png(picture, random) if random.random() < 0.7 else mutate_bytes(picture, random)
        request["messages"][-1] = {"role": "user", "content": [_part(changed)] * random.choice((1, 1, 2, 17))}
    elif chance < 0.7:
        request["messages"][-1]["content"] = "".join(random.choices(_TEXTS, k=random.choice((1, 2, 5))))
    body = json.dumps(request).encode()
    if 0.7 < chance < 0.85:
        body = mutate_bytes(body, random, words=_WORDS)
    elif chance > 0.85:
        head["headers"] = random.sample(_HEADERS, random.choice((0, 1, 2)))
        head["method"] = random.choice(("POST", "POST", "GET", "PUT", "OPTIONS", "HEAD", "X"))
        head["path"] = random.choice((_CHAT, *_PATHS))
        head["leave"] = random.choice((None, None, 0, 1, 2, 3))
    (folder / "body").write_bytes(body)
    (folder / "head.json").write_text(json.dumps(head))


@lru_cache(maxsize=1)
def _app(model: Path) -> Any:
    from minivlm.generation.loading import load_model
    from minivlm.serving.answering import Answerer
    from minivlm.serving.app import build_app

    return build_app(Answerer(*load_model(model)), _NAME)


def _use(folder: Path) -> None:
    app = _app(folder.parent / "seeds" / "model")
    head, body = json.loads((folder / "head.json").read_text()), (folder / "body").read_bytes()
    with _checked_log():
        status, answer = asyncio.run(_ask(app, head, body))
        if head["leave"] is not None:
            after = {"model": _NAME, "messages": [{"role": "user", "content": "?"}], "max_tokens": 1}
            sound: dict[str, Any] = {"method": "POST", "path": _CHAT, "headers": [], "leave": None}
            assert asyncio.run(_ask(app, sound, json.dumps(after).encode()))[0] == 200, (
                "nobody is answered any more"
            )
    if status is None or status < 400:
        return
    error = (
        json.loads(answer)["error"] if head["method"] != "HEAD" else {"message": "HEAD", "code": "", "type": ""}
    )
    assert status < 500 and isinstance(error["code"], str) and isinstance(error["type"], str), (status, error)
    raise UserError(error["message"])


async def _ask(app: Any, head: dict[str, Any], body: bytes) -> tuple[int | None, bytes]:
    """Status and body; no status when the client left before."""
    from tests.unit.serving.asking import Client

    client = Client(app, body, head["path"], method=head["method"], headers=head["headers"])
    if head["leave"] is not None:
        waiting = asyncio.create_task(client.until(head["leave"]))
        await asyncio.wait((waiting, client.task), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        client.leave()
    await client.task
    return (client.status, client.body) if client.heard and head["leave"] is None else (None, b"")


@contextmanager
def _checked_log() -> Iterator[None]:
    """Every line is one, and plain information; asyncio's complaints count too."""
    records: list[logging.LogRecord] = []
    keep = logging.Handler()
    keep.emit = records.append  # type: ignore[method-assign, assignment]
    loggers = [logging.getLogger(name) for name in ("minivlm.serving", "asyncio", "uvicorn.error")]
    loggers[0].setLevel(logging.INFO)
    for logger in loggers:
        logger.addHandler(keep)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(keep)
    for record in records:
        said = record.getMessage()
        assert record.levelno <= logging.INFO and said.isprintable(), f"in the log: {said[:200]!r}"


KINDS = (Kind("requests", 80, _prepare, _make, _use),)

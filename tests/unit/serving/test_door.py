"""Who comes in: bodies of a bounded size and time, a bounded number at once, nobody for a client that has gone."""

import asyncio
import json
import logging
import threading
import time

import pytest

from minivlm.serving.answering import Answerer
from minivlm.serving.app import build_app
from minivlm.serving.limits import Limits
from tests.unit.serving.asking import NAME, Client, data_uri, request, shown

BODY = json.dumps(request(max_tokens=3)).encode()


def code(client):
    return client.status, json.loads(client.body)["error"]["code"]


def app_of(llava, **limits):
    return build_app(Answerer(*llava, Limits(**limits)), NAME)


def test_a_body_that_is_too_long_is_read_and_refused(llava):
    async def ask():
        app = app_of(llava, body_bytes=len(BODY))
        exact, long = Client(app, BODY), Client(app, BODY, more=True)
        long.sent.put_nowait({"type": "http.request", "body": b" ", "more_body": False})
        await asyncio.gather(exact.task, long.task)
        assert exact.status == 200
        assert code(long) == (413, "request_too_large") and long.headers["connection"] == "close"
        assert long.sent.empty()

    asyncio.run(ask())


def test_a_body_that_does_not_come_is_not_waited_for(llava):
    async def ask():
        client = Client(app_of(llava, body_seconds=0.05), b"{", more=True)
        await client.task
        assert code(client) == (408, "request_timeout")

    asyncio.run(ask())


def test_only_so_many_come_in_at_once(llava):
    async def ask():
        app = app_of(llava, inside=2)
        waiting = [Client(app, b"", more=True) for _ in range(2)]
        await asyncio.sleep(0)
        refused = Client(app, BODY)
        await refused.task
        assert code(refused) == (429, "rate_limit_exceeded") and int(refused.headers["retry-after"]) > 0
        for client in waiting:
            client.sent.put_nowait({"type": "http.request", "body": BODY, "more_body": False})
        await asyncio.gather(*(client.task for client in waiting))
        assert [client.status for client in waiting] == [200, 200]
        again = Client(app, BODY)
        await again.task
        assert again.status == 200

    asyncio.run(ask())


@pytest.mark.parametrize("stream", [True, False])
def test_nothing_is_computed_for_a_client_that_has_gone(endless, caplog, stream):
    steps = []

    async def ask():
        answerer = Answerer(*endless)

        def decode(ids):
            steps.append(len(ids))
            time.sleep(0.005)  # a slow model: the client can leave in the middle
            return "x" * len(ids)

        answerer.decode = decode
        app = build_app(answerer, NAME)
        body = json.dumps(request(shown(data_uri()), max_tokens=128, stream=stream)).encode()
        client, other = Client(app, body), Client(app, body)
        while not steps:
            await asyncio.sleep(0.001)
        client.leave()
        other.leave()  # while it waits
        await asyncio.gather(client.task, other.task)
        seen = len(steps)
        next_one = Client(app, BODY)
        await next_one.task
        assert next_one.status == 200 and len(steps) - seen < 20

    with caplog.at_level(logging.INFO, "minivlm.serving"):
        asyncio.run(ask())
    assert caplog.messages[0].startswith("gone  POST") or caplog.messages[1].endswith("client gone")
    assert len(steps) < 64


def test_a_place_is_held_until_nothing_of_it_is_computed(endless):
    """Else clients that ask and leave would fill the memory with requests that wait to be dropped."""

    async def ask():
        answerer = Answerer(*endless, Limits(inside=1))
        computing, go_on = threading.Event(), threading.Event()

        def decode(ids):
            computing.set()
            go_on.wait(30)
            return ""

        answerer.decode = decode
        app = build_app(answerer, NAME)
        client = Client(app, BODY)
        while not computing.is_set():
            await asyncio.sleep(0.001)
        client.leave()
        await client.task
        refused = Client(app, BODY)
        await refused.task
        assert refused.status == 429
        go_on.set()
        while True:
            again = Client(app, BODY)
            await again.task
            if again.status == 200:
                break

    asyncio.run(asyncio.wait_for(ask(), 30))


def test_a_client_that_leaves_while_it_sends_is_forgotten(llava, caplog):
    async def ask():
        client = Client(app_of(llava), b"{", more=True)
        client.leave()
        await client.task
        assert client.heard == []

    with caplog.at_level(logging.INFO, "minivlm.serving"):
        asyncio.run(ask())
    assert caplog.messages == ["gone  POST  /v1/chat/completions"]

"""What a request may cost before its first token, and how the server ends while one is there."""

import asyncio
import json
import subprocess
import sys
import threading

import openai
import pytest
from PIL import Image
from starlette.testclient import TestClient

from minivlm.cli import serve as cli
from minivlm.generation import opening
from minivlm.paths import Paths
from minivlm.serving import answering, server
from minivlm.serving.answering import Answerer
from minivlm.serving.app import build_app
from minivlm.serving.limits import Limits
from minivlm.serving.server import Server, bind
from tests.contract.imports import ROOT
from tests.unit.serving.asking import CHAT, NAME, QUESTION, Client, data_uri, request

ONE_BIT = data_uri(Image.new("1", (3000, 3000)))  # 1 KB that unpacks to 9 million pixels


def asking(pictures, **settings):
    content = [{"type": "image_url", "image_url": {"url": each}} for each in pictures]
    message = {"role": "user", "content": [*content, {"type": "text", "text": "图"}]}
    return request(message, max_tokens=3, **settings)


@pytest.fixture
def decoded(monkeypatch):
    """Decoded pictures; `wait` is called before each."""
    seen = []
    original = opening.upright

    def decode(image):
        seen.append(image.size)
        decode.wait()
        return original(image)

    decode.wait, decode.seen = (lambda: None), seen
    monkeypatch.setattr(opening, "upright", decode)
    return decode


def test_pictures_have_so_many_pixels_together(llava, decoded):
    client = TestClient(build_app(Answerer(*llava, Limits(pixels=20_000_000)), NAME))
    assert client.post(CHAT, json=asking([ONE_BIT] * 2)).status_code == 200
    decoded.seen.clear()
    refused = client.post(CHAT, json=asking([ONE_BIT] * 3))
    assert refused.status_code == 400 and decoded.seen == []
    assert refused.json()["error"]["message"].startswith("messages: pictures of 27,000,000 pixels together")


@pytest.mark.slow
def test_many_large_pictures_take_the_memory_of_one(llava_directory, tmp_path):
    """In a process of its own, as a peak counts from its beginning."""
    body = tmp_path / "body.json"
    body.write_text(json.dumps(asking([ONE_BIT] * 8)))
    program = f"""
import json, pathlib, resource
from starlette.testclient import TestClient
from minivlm.generation.loading import load_model
from minivlm.serving.answering import Answerer
from minivlm.serving.app import build_app
client = TestClient(build_app(Answerer(*load_model(pathlib.Path({str(llava_directory)!r}))), {NAME!r}))
asked = json.loads(pathlib.Path({str(body)!r}).read_text())
peaks = []
for pictures in (1, 8):
    [message] = asked["messages"]
    less = message | {{"content": message["content"][-1 - pictures:]}}
    assert client.post({CHAT!r}, json=asked | {{"messages": [less]}}).status_code == 200
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(peaks[1] - peaks[0])
"""
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(run.stdout) < 60_000  # KiB; a picture as RGB has 35,000, and one more in Pillow's form


@pytest.mark.parametrize("leaving", ["client", "server"])
def test_between_pictures_it_is_asked_whether_somebody_waits(llava, decoded, leaving):
    async def ask():
        answerer = Answerer(*llava)
        begun, go_on = threading.Event(), threading.Event()
        decoded.wait = lambda: (begun.set(), go_on.wait(30))
        client = Client(build_app(answerer, NAME), json.dumps(asking([ONE_BIT] * 8)).encode())
        while not begun.is_set():
            await asyncio.sleep(0.001)
        if leaving == "client":
            client.leave()
            await client.task
            go_on.set()
        else:
            answerer.closing.set()
            go_on.set()
            await client.task
            assert client.status == 503
        decoded.wait = lambda: None
        answerer.closing.clear()
        other = Client(build_app(answerer, NAME), json.dumps(request(max_tokens=1)).encode())
        await other.task

    asyncio.run(asyncio.wait_for(ask(), 60))
    assert decoded.seen.count((3000, 3000)) == 1


@pytest.mark.parametrize("value", [-5, 7])
def test_top_p_of_none_and_negative_seeds_are_openais(llava, value):
    client = TestClient(build_app(Answerer(*llava), NAME))

    def said(**settings):
        return client.post(CHAT, json=request(max_tokens=8, **settings)).json()["choices"][0]["message"]["content"]

    greedy = said()
    assert said(temperature=1.5, top_p=0) == greedy == said(temperature=1e-40)
    assert said(temperature=1.5, seed=value) == said(temperature=1.5, seed=value)


@pytest.mark.parametrize("field", [{"n": True}, {"n": 1.0}, {"logprobs": 0}, {"top_logprobs": False}])
def test_what_asks_for_nothing_has_its_own_type(llava, field):
    client = TestClient(build_app(Answerer(*llava), NAME))
    assert client.post(CHAT, json=request(max_tokens=1) | field).status_code == 400
    same = {"n": 1, "logprobs": False, "top_logprobs": 0, "presence_penalty": 0.0}
    assert client.post(CHAT, json=request(max_tokens=1) | same).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *((host, 200) for host in ("127.0.0.1:8000", "localhost", "[::1]:8000", "box:1")),
        *((host, 403) for host in ("evil.example", "", "[::", "127.0.0.1.evil.example")),
    ],
)
def test_a_page_whose_name_leads_here_may_not_ask(llava, host, status):
    app = build_app(Answerer(*llava), NAME)
    app.hosts = frozenset({"box"})
    assert TestClient(app).get("/health", headers={"host": host}).status_code == status
    app.hosts = None
    assert TestClient(app).get("/health", headers={"host": host}).status_code == 200


def test_a_server_on_loopback_checks_names_and_an_open_one_does_not(llava, llava_directory, monkeypatch):
    made = []
    monkeypatch.setattr(server, "load_model", lambda *_: llava)
    monkeypatch.setattr(server, "_log_to_stderr", lambda: None)
    monkeypatch.setattr(Server, "run", lambda self, _: made.append(self._door.hosts))
    for host in ("127.0.0.1", "0.0.0.0"):
        server.serve(llava_directory, name=None, host=host, port=0, device="cpu", ready=print)
    assert made == [{"127.0.0.1"}, None]


def test_uvicorn_waits_for_answers_for_a_time_that_ends(llava):
    config = Server(Answerer(*llava), NAME).config
    assert server._GRACE + server._LAST < config.timeout_graceful_shutdown <= 15


def test_a_request_without_a_first_token_is_refused_when_the_server_stops(llava, monkeypatch, caplog):
    """And nothing is written but its line in the log."""
    computing, go_on, begun = threading.Event(), threading.Event(), threading.Event()
    monkeypatch.setattr(answering, "write", lambda *_, **__: (computing.set(), go_on.wait(30)) and [0])
    serving = Server(Answerer(*llava), NAME, begun.set)
    monkeypatch.setattr(server, "_GRACE", 0.1)
    monkeypatch.setattr(server, "_LAST", 0.1)
    with bind("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=serving.run, args=([listening],))
        thread.start()
        assert begun.wait(30)
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        client = openai.OpenAI(base_url=address, api_key="none", max_retries=0, timeout=20)
        stop = threading.Thread(target=lambda: (computing.wait(30), setattr(serving, "should_exit", True)))
        stop.start()
        with pytest.raises(openai.InternalServerError, match="the server is stopping"):
            client.chat.completions.create(**request())
        go_on.set()
        thread.join()
        stop.join()
    assert not [each for each in caplog.records if each.name.startswith("uvicorn") and each.levelname == "ERROR"]


def test_a_request_that_uvicorn_cancels_ends_with_a_503(llava, monkeypatch):
    async def ask():
        app = build_app(Answerer(*llava), NAME)
        client = Client(app, b"{", more=True)
        await asyncio.sleep(0.01)
        client.task.cancel()
        await client.task
        assert client.status == 503

    asyncio.run(ask())


def test_serving_needs_no_params_file(tmp_path):
    (tmp_path / "params.yaml").write_text("unknown: 1\n")
    assert cli._question(Paths(tmp_path)) == QUESTION
    assert cli._question(Paths(ROOT))

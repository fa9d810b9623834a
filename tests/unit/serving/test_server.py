"""A real server on loopback and OpenAI's own client: addresses, answers, limits, and how it ends."""

import base64
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import openai
import pytest
from PIL import Image
from typer.testing import CliRunner

from minivlm.cli import serve as cli
from minivlm.cli.main import app
from minivlm.errors import UserError
from minivlm.generation.captions import caption_pictures
from minivlm.paths import Paths
from minivlm.serving.answering import Answerer
from minivlm.serving.limits import Limits
from minivlm.serving.server import PORT, Server, bind, model_name
from tests.contract.imports import ROOT
from tests.unit.evaluation.toys import picture
from tests.unit.serving.asking import NAME, QUESTION, data_uri, shown

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def client(llava):
    """OpenAI's client of a server in a thread of this process."""
    begun = threading.Event()
    server = Server(Answerer(*llava, Limits(body_bytes=1 << 20)), NAME, begun.set)
    with bind(HOST, 0) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        assert begun.wait(30)
        port = listening.getsockname()[1]
        yield openai.OpenAI(base_url=f"http://{HOST}:{port}/v1", api_key="none", max_retries=0, timeout=60)
        server.should_exit = True
        thread.join()


def test_openais_client_gets_the_caption_whole_and_streamed(client, llava):
    for seed in range(2):
        image = picture(seed, 48)
        [caption] = caption_pictures(*llava, [image], QUESTION, batch_size=1, max_new_tokens=128)
        messages = [shown(data_uri(image))]
        whole = client.chat.completions.create(model=NAME, messages=messages)
        assert whole.choices[0].message.content == caption
        options = {"stream": True, "stream_options": {"include_usage": True}}
        stream = list(client.chat.completions.create(model=NAME, messages=messages, **options))
        said = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
        assert said == caption and stream[-1].usage == whole.usage


def test_the_program_in_the_documentation_gets_the_caption_twice(client, llava, monkeypatch, capsys):
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    [program] = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    program = program.replace("http://127.0.0.1:8000/v1", str(client.base_url)).replace("minivlm-sft", NAME)
    monkeypatch.chdir(ROOT)
    exec(program, {})
    with Image.open("data/eval_images/01-sunset.jpg") as image:
        [caption] = caption_pictures(*llava, [image], QUESTION, batch_size=1, max_new_tokens=128)
    assert capsys.readouterr().out == f"{caption}\n{caption}"


def test_openais_client_understands_refusals(client):
    with pytest.raises(openai.NotFoundError, match="minivlm-tiny"):
        client.chat.completions.create(model="gpt-4o", messages=[shown(data_uri())])
    with pytest.raises(openai.BadRequestError, match="data: URI") as caught:
        client.chat.completions.create(model=NAME, messages=[shown("https://example.org/x.png")])
    assert caught.value.code == "invalid_image_url" and caught.value.param.endswith("image_url.url")
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model=NAME, messages=[shown("data:image/png;base64," + "A" * (8 << 20))])
    assert caught.value.status_code == 413
    assert [model.id for model in client.models.list()] == [NAME]
    assert client.models.retrieve(NAME).id == NAME


def test_a_port_that_was_asked_for_is_not_exchanged():
    with bind(HOST, 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"{HOST}, port {port}: Address already in use; .*--port"):
            bind(HOST, port)


def test_another_port_is_taken_when_none_was_asked_for():
    with bind(HOST, None) as first, bind(HOST, None) as second:
        ports = [each.getsockname()[1] for each in (first, second)]
        assert PORT <= ports[0] < ports[1]
        assert first.proto == socket.IPPROTO_TCP  # else asyncio leaves small pieces waiting for an acknowledgement


@pytest.mark.parametrize("host", ["256.1.1.1", "no such host", "\udcff", "x" * 300])
def test_an_address_that_is_none_is_refused_in_one_line(host):
    with pytest.raises(UserError, match="--host"):
        bind(host, 0)


def test_a_model_is_called_after_its_stage(tmp_path):
    for folder, name in (("artifacts/sft/model", "minivlm-sft"), ("models/Meine Bilder", "minivlm-meine-bilder")):
        assert model_name(tmp_path / folder) == name


def test_a_missing_package_is_named_with_what_to_do(monkeypatch):
    monkeypatch.setattr(cli, "find_spec", lambda name: None if name == "uvicorn" else name)
    result = CliRunner().invoke(app, ["serve"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: minivlm serve needs uvicorn; install") and "[serve]" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("host", "open_to_others"), [("127.0.0.2", False), ("localhost", False), ("no-name", True)]
)
def test_an_interface_that_others_reach_is_warned_of(tmp_path, host, open_to_others):
    (tmp_path / "config.json").write_text("{}")
    result = CliRunner().invoke(app, ["serve", "--model", str(tmp_path), "--port", "0", "--host", host])
    assert result.exit_code == 2 and ("warning: " in result.stderr) == open_to_others


def test_a_missing_model_is_one_line(tmp_path):
    result = CliRunner().invoke(app, ["serve", "--model", str(tmp_path / "none"), "--port", "0"])
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: ") and "none" in result.stderr


def test_the_example_survives_what_people_ask():
    question = """它\'s "100%" \\n $HOME @ <image>?"""
    command = cli._example("http://x", NAME, Paths(), question).partition("|\n    curl")[0]
    body = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    picture, text = json.loads(body)["messages"][0]["content"]
    assert text["text"] == question
    assert base64.b64decode(picture["image_url"]["url"].split(",")[1])[:3] == b"\xff\xd8\xff"


@pytest.mark.slow
def test_a_second_ctrl_c_at_once_leaves_no_traceback_in_the_log(llava_directory):
    command = [sys.executable, "-m", "minivlm.cli.main", "serve", "--model", str(llava_directory), "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert "loaded in" in server.stdout.readline()
        finally:
            server.send_signal(signal.SIGINT)
        time.sleep(0.05)  # two that come as one are one
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=30)
    assert out.endswith("stopped\n") and err == ""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_answers_what_it_prints_and_ends_in_one_line(llava_directory, tmp_path, number):
    Image.new("RGB", (30, 20), "red").save(tmp_path / "photo.jpg")
    command = [sys.executable, "-m", "minivlm.cli.main", "serve", "--model", str(llava_directory), "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            first, *example, python = [server.stdout.readline() for _ in range(5)]
            assert re.match(r"minivlm-llava\d* \(.*\) at http://127\.0\.0\.1:\d+/v1, loaded in [\d.]+ s", first)
            pasted = subprocess.run(["bash", "-c", "".join(example)], capture_output=True, text=True, check=True)
            assert '"finish_reason":' in pasted.stdout
            assert f'base_url="{first.split(" at ")[1].split(",")[0]}"' in python
        finally:
            server.send_signal(number)
        out, err = server.communicate(timeout=30)
    assert (server.returncode, out) == (0, "stopped\n")
    [line] = err.splitlines()
    assert "  200  POST  /v1/chat/completions  1 picture" in line

"""One greedy caption for one picture, whoever is asked: each surface is a process of its own, as people start it.

A further surface is a function of a `Served` that returns the captions of its pictures in order, and its entry in
`SURFACES`.
"""

import base64
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from minivlm.config import load_params
from minivlm.generation.caption_files import printable
from minivlm.paths import Paths
from minivlm.ports import HOST, free_port
from minivlm.tracking import Candidate, stage_run
from minivlm.tracking.champion import Score
from tests.integration.mlflow_server import first_line, wait_until
from tests.unit.evaluation.toys import picture, write_llava

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
SECONDS = 300  # that a command may take on a busy machine
QUESTION, LENGTH = "请描述这张图片。", 24
CHAMPION = "models:/minivlm@champion"
# What a registered model does without: it is to load where this project and these are not installed.
NOT_THERE = ("dvc", "great_expectations", "ruamel", "sacrebleu", "typer")
PYFUNC = """
import json, sys
from pathlib import Path

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"{name} is not here")

sys.meta_path.insert(0, Blocked())
import mlflow

model = mlflow.pyfunc.load_model(sys.argv[2])
import minivlm

assert "/artifacts/code/" in minivlm.__file__, minivlm.__file__  # the model's own, not the checkout's
pictures = [{"image": Path(path).read_bytes()} for path in sys.argv[4:]]
captions = model.predict(pictures, params={"max_new_tokens": int(sys.argv[3])})["caption"]
example = model.predict(model.input_example)["caption"]
assert len(example) == 1
print(json.dumps(list(captions)))
"""
PIPELINE = """
import json, sys
from transformers import pipeline

directory, question, length, *pictures = sys.argv[1:]
pipe = pipeline("image-text-to-text", model=directory)
captions = []
for path in pictures:
    parts = [{"type": "image", "image": path}, {"type": "text", "text": question}]
    said = pipe(
        text=[{"role": "user", "content": parts}],
        generate_kwargs={"max_new_tokens": int(length), "do_sample": False},
        return_full_text=False,
    )
    captions.append(said[0]["generated_text"])
assert not [name for name in sys.modules if name.split(".")[0] == "minivlm"]
print(json.dumps(captions))
"""


@dataclass(frozen=True)
class Served:
    """A model, registered as champion in the store at `store`, and pictures to ask it about."""

    directory: Path
    store: str
    pictures: list[Path]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Registered as evaluate does it: told to a journal, brought by the courier's process."""
    home = tmp_path_factory.mktemp("home")
    pictures = [home / "pictures" / f"{number}.jpg" for number in range(6)]
    pictures[0].parent.mkdir()
    for number, path in enumerate(pictures):
        picture(number, size=48).save(path)
    directory, paths = write_llava(home / "model"), Paths(home / "checkout")
    paths.root.mkdir()
    example = "data:image/jpeg;base64," + base64.b64encode(pictures[0].read_bytes()).decode()
    score = Score("attribute_recall", 0.5, "a" * 16)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with stage_run("evaluate", load_params(ROOT / "params.yaml"), paths, key="one") as run:
            run.log_model(Candidate("minivlm", "sft", directory, QUESTION, LENGTH, example, "A toy.", score))
    return Served(directory, f"sqlite:///{paths.tracking}/mlflow.db", pictures)


def run(served, *command, cwd=None):
    """What a process prints as JSON; with the checkout's code on its path only where `cwd` is the checkout."""
    foreign = ("MLFLOW_", "PYTHONPATH", "PYTEST_", "DVC_")
    own = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    own |= {"MLFLOW_TRACKING_URI": served.store, "HF_HUB_OFFLINE": "1"}
    if cwd == ROOT:
        own["PYTHONPATH"] = str(ROOT / "src")
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd or served.directory, env=own, capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def by_minivlm_caption(served):
    """`minivlm caption`."""
    asked = ("--question", QUESTION, "--max-new-tokens", LENGTH, "--model", served.directory, "--json")
    lines = run(served, "-m", "minivlm.cli.main", "caption", *served.pictures, *asked, cwd=ROOT)
    return [line["caption"] for line in lines]


def by_pyfunc(served):
    """`mlflow.pyfunc.load_model`, where nothing but MLflow, torch and transformers is."""
    [captions] = run(served, "-c", PYFUNC, ",".join(NOT_THERE), CHAMPION, LENGTH, *served.pictures)
    return captions


def by_transformers_pipeline(served):
    """transformers' own pipeline, without this project; it leaves control characters in what it says."""
    [captions] = run(served, "-I", "-c", PIPELINE, served.directory, QUESTION, LENGTH, *served.pictures)
    return [printable(caption) for caption in captions]


def by_mlflow_models_serve(served):
    """`mlflow models serve`, each picture posted by itself."""
    with serving(served) as address:
        return [post(address, path.read_bytes())["predictions"][0]["caption"] for path in served.pictures]


def by_openai_client(served):
    """The `openai` client against `minivlm serve`, every other picture streamed."""
    with serving_openai(served) as client:
        return [printable(asked(client, path, stream=bool(n % 2))) for n, path in enumerate(served.pictures)]


SURFACES = {
    "minivlm caption": by_minivlm_caption,
    "mlflow.pyfunc": by_pyfunc,
    "mlflow models serve": by_mlflow_models_serve,
    "transformers pipeline": by_transformers_pipeline,
    "openai client": by_openai_client,
}


@contextlib.contextmanager
def serving(served):
    """The address of `mlflow models serve` over the champion, which ends with the block."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", CHAMPION, "--env-manager", "local"]
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": served.store,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # The server is started as `uvicorn`, which is beside this interpreter.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }
    log = served.directory.with_name("serve.log")
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command, "--host", HOST, "--port", str(port)],
            cwd=served.directory, env=environment, stdout=stream, stderr=stream, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until(lambda: answers(f"http://{HOST}:{port}/ping", process), why=f"it did not start: {log}")
        yield f"http://{HOST}:{port}/invocations"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def serving_openai(served):
    """OpenAI's client of a `minivlm serve` over the model, which ends with the block."""
    import openai

    command = [sys.executable, "-m", "minivlm.cli.main", "serve", "--model", str(served.directory), "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1"}
    log = served.directory.with_name("openai.log")
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=stream, text=True, start_new_session=True,
        )  # fmt: skip
    try:
        found = re.search(r"http://[\d.]+:\d+/v1", first_line(process))
        assert found, f"it did not start: {log}"
        yield openai.OpenAI(base_url=found[0], api_key="none", max_retries=0, timeout=SECONDS)
    finally:
        process.kill()
        process.communicate()


def asked(client, path, stream):
    """What the served model says of the picture."""
    shown = "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()
    parts = [{"type": "image_url", "image_url": {"url": shown}}, {"type": "text", "text": QUESTION}]
    [model] = client.models.list().data
    answer = client.chat.completions.create(
        model=model.id, messages=[{"role": "user", "content": parts}], max_tokens=LENGTH, stream=stream
    )
    if stream:
        return "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)
    return answer.choices[0].message.content


def answers(address, process):
    assert process.poll() is None, "it ended"
    with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=2) as answer:
        return answer.status == 200
    return False


def post(address, data, length=LENGTH):
    """The JSON answer to a picture; HTTPError as urllib raises it."""
    row = {"image": base64.b64encode(data).decode()}
    body = json.dumps({"dataframe_records": [row], "params": {"max_new_tokens": length}}).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def expected(served):
    captions = by_minivlm_caption(served)
    assert len(set(captions)) > 3 and all(captions)  # they depend on the picture
    return captions


@pytest.mark.parametrize("surface", [name for name in SURFACES if name != "minivlm caption"])
def test_every_surface_gives_the_caption_that_the_command_gives(served, expected, surface):
    assert SURFACES[surface](served) == expected


def test_the_scoring_server_answers_400_to_what_is_no_picture_and_null_as_nothing_said(served, expected):
    with serving(served) as address:
        with pytest.raises(urllib.error.HTTPError) as error:
            post(address, b"not a picture")
        said = post(address, served.pictures[0].read_bytes(), length=None)
    refusal = json.loads(error.value.read())
    assert error.value.code == 400 and "column 'image': row 0: not a picture" in refusal["message"]
    assert said["predictions"][0]["caption"] == expected[0]

"""The whole pipeline on a hub's data set, tower and language model: a killed download goes on where it was."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from minivlm.paths import STAGES
from tests.hub_server import sha256_of
from tests.integration.checkout import ROOT, Checkout, stages_run
from tests.integration.hub_root import DATASET, HEADS_CONFIG, LLM, TOWER, WIDTH, write_hub

pytestmark = pytest.mark.slow
SLOW = 60_000  # bytes a second, so that there is time to kill a download


@contextmanager
def serving(root: Path, folder: Path, *options: str):
    """The address of a loopback hub in a process of its own."""
    port = folder / f"port-{time.monotonic_ns()}"
    command = [sys.executable, "tests/hub_server.py", "--root", str(root), "--port-file", str(port), *options]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        deadline = time.monotonic() + 30
        while not (port.exists() and port.read_text().strip()):
            assert process.poll() is None and time.monotonic() < deadline, "the hub does not start"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port.read_text().strip()}"
    finally:
        process.terminate()
        process.wait()


def name_sources(checkout: Checkout) -> None:
    """The parameters of profile 4090 in small, without pins."""
    yaml = YAML()
    path = checkout.root / "params.yaml"
    params = yaml.load(path)
    params["threads"] = 1
    params["download"] |= {
        "source": "hub",
        "heldout_fraction": 0.1,
        "hub": {
            split: {"repo": DATASET, "rows": f"{split}_data.jsonl", "images": f"{split}_images.zip"}
            for split in ("pretrain", "sft")
        },
    }
    params["base"]["source"] = "hub"
    params["base"]["vision_tower"]["pretrained"] = {"repo": TOWER}
    params["base"]["llm"]["pretrained"] = {
        "repo": LLM,
        "checkpoint": f"llm_{WIDTH}.pth",
        "config": HEADS_CONFIG,
    }
    params["base"]["tokenizer"]["pretrained"] = {"repo": LLM}
    yaml.dump(params, path)
    checkout.commit("name sources")


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    return write_hub(tmp_path_factory.mktemp("hub"))


def fresh(folder: Path, endpoint: str) -> Checkout:
    """A checkout with an empty cache of the hub, pins resolved by `minivlm pin`."""
    caches = {"HF_HOME": str(folder / "hub-cache"), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_TELEMETRY": "1"}
    checkout = Checkout(folder, **caches)
    name_sources(checkout)
    checkout.minivlm("pin")
    checkout.commit("pin")
    shutil.rmtree(folder / "hub-cache", ignore_errors=True)
    return checkout


@pytest.fixture(scope="module")
def uninterrupted(hub, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    with serving(hub, folder) as endpoint:
        checkout = fresh(folder, endpoint)
        assert stages_run(checkout.run("dvc", "repro")) == list(STAGES)
    return checkout


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def arriving(cache: Path) -> dict[str, int]:
    """sha256 of each file that is not there whole → bytes that have arrived."""
    return {path.stem: path.stat().st_size for path in cache.rglob("*.incomplete")}


def assert_resumed(hub: Path, log: Path, arrived: dict[str, int]) -> None:
    """Of every interrupted file only the rest was sent, from the byte on that was missing."""
    requests = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    contents = {sha256_of(path): path for path in hub.rglob("*") if path.is_file()}
    assert arrived
    for sha256, there in arrived.items():
        file = contents[sha256]
        asked = [each for each in requests if each["method"] == "GET" and each["path"].endswith(f"/{file.name}")]
        bodies = [each for each in asked if each["status"] in (200, 206)]
        assert [each["range"] for each in bodies] == [f"bytes={there}-"], file
        assert sum(each["sent"] for each in bodies) == file.stat().st_size - there, file


@pytest.mark.long
def test_a_killed_download_goes_on_and_ends_as_an_uninterrupted_one(hub, uninterrupted, tmp_path):
    with serving(hub, tmp_path, "--slow", str(SLOW)) as endpoint:
        checkout = fresh(tmp_path, endpoint)
        running = checkout.start("dvc", "repro")
        deadline = time.monotonic() + 120
        while bytes_in(tmp_path / "hub-cache") < SLOW:
            assert running.poll() is None and time.monotonic() < deadline, "nothing to interrupt"
            time.sleep(0.05)
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate()
        assert not (checkout.root / "artifacts/download").exists()
        arrived = arriving(tmp_path / "hub-cache")
        assert sum(arrived.values()) >= SLOW / 2, "what had arrived is lost"
    with serving(hub, tmp_path, "--log", str(tmp_path / "log")) as endpoint:
        checkout.environment["HF_ENDPOINT"] = endpoint
        assert stages_run(checkout.run("dvc", "repro")) == list(STAGES)
    assert_resumed(hub, tmp_path / "log", arrived)
    locks = [YAML(typ="safe").load(each.root / "dvc.lock")["stages"] for each in (checkout, uninterrupted)]
    outs = [{name: stage["outs"] for name, stage in lock.items()} for lock in locks]
    assert outs[0] == outs[1]


def test_the_models_carry_the_hub_s_sizes_and_no_trace_of_where_they_came_from(uninterrupted):
    artifacts = uninterrupted.root / "artifacts"
    config = json.loads((artifacts / "sft/model/config.json").read_text(encoding="utf-8"))
    assert config["text_config"]["hidden_size"] == WIDTH
    card = (artifacts / "sft/model/README.md").read_text(encoding="utf-8")
    assert "license: other" in card and all(f'- "{name}"' in card for name in (DATASET, TOWER, LLM))
    places = [b"127.0.0.1", uninterrupted.environment["HF_HOME"].encode(), str(uninterrupted.root).encode()]
    files = [path for path in artifacts.rglob("*") if path.is_file()]
    assert len([path for path in files if path.name == "config.json"]) > 3
    for path in files:
        content = path.read_bytes()
        assert [place for place in places if place in content] == [], path


def test_a_second_run_asks_the_hub_for_nothing(uninterrupted):
    uninterrupted.environment["HF_ENDPOINT"] = "http://127.0.0.1:1"
    assert stages_run(uninterrupted.run("dvc", "repro")) == []


def test_offline_with_a_full_cache_the_download_can_be_made_again(uninterrupted):
    uninterrupted.environment |= {"HF_ENDPOINT": "http://127.0.0.1:1", "HF_HUB_OFFLINE": "1"}
    assert stages_run(uninterrupted.run("dvc", "repro", "--force", "download")) == ["download"]

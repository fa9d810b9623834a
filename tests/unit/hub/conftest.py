"""A loopback hub with two repositories, an empty cache, and no way to the outside."""

import hashlib

import pytest

from minivlm.hub import Pin
from tests.hub_server import files_of, revision_of, serving, sha256_of

NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing listens


def content(seed: str, size: int) -> bytes:
    """Bytes that are the same in every run."""
    return hashlib.shake_256(seed.encode()).digest(size)


def write(root, path: str, data: bytes):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def pin_of(root, kind: str, repo: str, name: str = "base.llm.pretrained", **fields) -> Pin:
    """The right pin of a whole repository below `root`."""
    folder = root / f"{kind}s" / repo
    files = {path: (file.stat().st_size, sha256_of(file)) for path, file in files_of(folder).items()}
    return Pin(
        **{"name": name, "repo": repo, "kind": kind, "revision": revision_of(folder), "files": files, **fields}
    )


@pytest.fixture
def root(tmp_path):
    """The folder that the hub serves."""
    root = tmp_path / "hub"
    write(root, "models/ours/llm/config.json", b'{"model_type": "llama"}')
    write(root, "models/ours/llm/model.safetensors", content("weights", 200_000))
    write(root, "models/ours/llm/tokenizer.json", b"{}")
    write(root, "datasets/ours/rows/data/sft.jsonl", content("rows", 60_000))
    write(root, "datasets/ours/rows/sft images.zip", content("pictures", 120_000))
    return root


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """An empty cache, no tokens, and both places pointing at nothing."""
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name in (
        "MODELSCOPE_API_TOKEN",
        "MODELSCOPE_DOMAIN",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", NOWHERE)
    return tmp_path


@pytest.fixture
def hub(root, environment, monkeypatch):
    """Hugging Face, on the loopback interface."""
    with serving(root) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def scope(tmp_path, environment, monkeypatch):
    """ModelScope, on the loopback interface, with nothing in it yet."""
    root = tmp_path / "scope"
    root.mkdir()
    with serving(root) as server:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", server.url)
        yield server


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """The seconds that would have been waited; nobody waits."""
    seconds: list[float] = []
    monkeypatch.setattr("minivlm.hub.patience.pause", lambda wait, stop: seconds.append(wait))
    return seconds

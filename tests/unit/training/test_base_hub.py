"""The base from a hub: the real client, a hub on the loopback interface, the real loaders."""

import pytest
import torch
from safetensors.torch import load_file

from minivlm.config import Base
from minivlm.training.base import train_base
from minivlm.training.brought import find_parts
from tests.hub_server import files_of, revision_of, serving, sha256_of
from tests.unit.training.test_base import SECTION, SHARED, rows


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A hub with a vision tower, a language model and a tokenizer; the base that they come from."""
    root = tmp_path_factory.mktemp("hub")
    made = root / "models" / "ours"
    made.mkdir(parents=True)
    train_base(rows(), made, SECTION, seed=0, shared=SHARED)
    return root, made


def pinned(folder):
    files = {
        path: {"size": file.stat().st_size, "sha256": sha256_of(file)} for path, file in files_of(folder).items()
    }
    return {"pretrained": {"repo": f"ours/{folder.name}", "revision": revision_of(folder), "files": files}}


def test_both_models_come_from_the_hub_as_they_are_there(served, tmp_path, monkeypatch):
    root, made = served
    values = SECTION.model_dump(exclude_none=True) | {"source": "hub"}
    for part in ("vision_tower", "llm", "tokenizer"):
        values[part] |= pinned(made / part)
    section = Base.model_validate(values)
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    with serving(root) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        brought = find_parts(section, tmp_path, place="huggingface", downloads=2)
    (tmp_path / "base").mkdir()
    metrics = train_base({}, tmp_path / "base", section, seed=0, shared=SHARED, brought=brought)
    for part in ("vision_tower", "llm"):
        weights, expected = (load_file(base / part / "model.safetensors") for base in (tmp_path / "base", made))
        assert weights.keys() == expected.keys()
        assert all(torch.equal(weights[name], expected[name]) for name in expected)
        assert metrics[part]["source"] == "hub"

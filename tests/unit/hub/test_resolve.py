"""`resolve` with the real client: the commit, the files that loading reads, sizes and hashes."""

import json

import pytest

from minivlm.errors import UserError
from minivlm.hub import choice, fetch, resolve
from minivlm.hub.pins import Pin
from tests.hub_server import revision_of
from tests.unit.hub.conftest import pin_of, write


def lay(root, *paths, repo="ours/model"):
    for path in paths:
        write(root, f"models/{repo}/{path}", path.encode())


def test_what_is_resolved_can_be_fetched(root, hub):
    revision, files = resolve("ours/llm", "model", choice.language_model(None))
    pin = pin_of(root, "model", "ours/llm")
    assert (revision, files) == (pin.revision, pin.files)
    fetch([Pin("base.llm.pretrained", "ours/llm", "model", revision, files)])


def test_rows_and_pictures_are_the_named_files(root, hub):
    revision, files = resolve("ours/rows", "dataset", choice.named("data/sft.jsonl", "sft images.zip"))
    assert revision == revision_of(root / "datasets/ours/rows")
    assert files == pin_of(root, "dataset", "ours/rows").files
    with pytest.raises(
        UserError, match=r"ours/rows: has no other.parquet; there are: data/sft.jsonl, sft images.zip"
    ):
        resolve("ours/rows", "dataset", choice.named("other.parquet"))


WEIGHTS = {
    "safetensors before bin": (["model.safetensors", "pytorch_model.bin"], ["model.safetensors"]),
    "bin alone": (["pytorch_model.bin", "flax_model.msgpack", "tf_model.h5"], ["pytorch_model.bin"]),
    "shards": (
        [
            "model-00002-of-00002.safetensors",
            "model-00001-of-00002.safetensors",
            "model.safetensors.index.json",
            "pytorch_model.bin",
        ],
        ["model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
    ),
    "bin shards": (
        ["pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"],
        ["pytorch_model.bin.index.json", "pytorch_model-00001-of-00001.bin"],
    ),
}


@pytest.mark.parametrize(("there", "taken"), WEIGHTS.values(), ids=WEIGHTS)
def test_weights_are_taken_once(there, taken):
    paths = ["README.md", "config.json", "onnx/model.safetensors", *there]
    assert choice.vision_tower(paths) == ["config.json", *taken]


def test_a_vision_tower_brings_its_picture_settings_and_no_tokenizer():
    paths = ["config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json", "vocab.json"]
    assert choice.vision_tower(paths) == ["preprocessor_config.json", "config.json", "model.safetensors"]


def test_a_language_model_brings_its_tokenizer_as_far_as_it_is_there():
    paths = [
        "config.json",
        "generation_config.json",
        "pytorch_model.bin",
        "merges.txt",
        "vocab.json",
        "a/vocab.json",
    ]
    assert sorted(choice.language_model(None)(paths)) == sorted(paths[:-1])


def test_a_checkpoint_replaces_the_model_directory():
    paths = ["config.json", "llm_512.pth", "llm_768.pth", "model.safetensors", "tokenizer.json"]
    assert choice.language_model("llm_512.pth")(paths) == ["llm_512.pth", "tokenizer.json"]


@pytest.mark.parametrize(
    ("paths", "choose", "line"),
    [
        (["config.json"], choice.vision_tower, "has no weights"),
        (["model.safetensors"], choice.vision_tower, "has no config.json"),
        (["config.json", "model.safetensors.index.json"], choice.vision_tower, "has no weights"),
        (["a.pth"], choice.language_model("b.pth"), "has no b.pth; there are: a.pth"),
        (["README.md"], choice.tokenizer, "has no tokenizer"),
    ],
)
def test_a_repository_without_what_is_needed_is_one_line(root, hub, paths, choose, line):
    lay(root, *paths)
    with pytest.raises(UserError, match=f"ours/model: {line}") as told:
        resolve("ours/model", "model", choose)
    assert "\n" not in str(told.value)


def test_a_busy_hub_is_asked_again(root, hub, waits):
    hub.misbehave("config.json", "status", times=2, status=429, headers={"Retry-After": "3"})
    resolve("ours/llm", "model", choice.language_model(None))
    assert waits == [3, 3]


def test_a_small_file_that_is_not_what_the_hub_lists_is_refused(root, hub):
    hub.misbehave("config.json", "change")
    with pytest.raises(UserError, match=r"sends other bytes for config.json"):
        resolve("ours/llm", "model", choice.language_model(None))


def test_an_absent_repository_is_one_line(root, hub):
    with pytest.raises(UserError, match=r"ours/nothing: Hugging Face: .*ours/nothing"):
        resolve("ours/nothing", "model", choice.vision_tower)


def test_where_nothing_can_be_reached_is_one_line(environment, monkeypatch):
    with pytest.raises(UserError, match=r"http://127.0.0.1:9 cannot be reached.*HF_ENDPOINT"):
        resolve("ours/llm", "model", choice.vision_tower)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        resolve("ours/llm", "model", choice.vision_tower)


PAGE = ("text/html; charset=utf-8", b"<html>Log in to the network</html>")
SHA = "0123456789abcdef" * 2 + "01234567"
NO_HUB = {
    "a page": PAGE,
    "an empty answer": ("text/plain", b""),
    "no keys": ("application/json", b"{}"),
    "a list": ("application/json", b"[]"),
    "null": ("application/json", b"null"),
    "no commit": ("application/json", b'{"id": "ours/llm", "siblings": []}'),
    "a strange commit": ("application/json", b'{"id": "ours/llm", "sha": "main", "siblings": []}'),
    "a number for a commit": ("application/json", b'{"id": "ours/llm", "sha": 7, "siblings": []}'),
    "strange files": ("application/json", b'{"id": "ours/llm", "sha": "%s", "siblings": [7]}' % SHA.encode()),
}


@pytest.mark.parametrize("answer", NO_HUB.values(), ids=NO_HUB)
@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_what_is_no_hub_is_one_line(root, hub, kind, answer):
    hub.instead["/api/"] = answer
    with pytest.raises(UserError, match=r"ours/llm: Hugging Face: http://.* does not answer as a hub") as told:
        resolve("ours/llm", kind, choice.language_model(None))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "lfs", [{"size": "much", "sha256": SHA}, {"size": 7, "sha256": "abc"}, {"size": None, "sha256": None}]
)
def test_a_large_file_without_size_and_hash_is_one_line(root, hub, lfs):
    listed = [{"rfilename": "rows.parquet", "size": 7, "blobId": SHA, "lfs": {**lfs, "pointerSize": 130}}]
    answer = {"id": "ours/rows", "sha": SHA, "siblings": listed}
    hub.instead["/api/"] = ("application/json", json.dumps(answer).encode())
    with pytest.raises(UserError, match=r"ours/rows: Hugging Face: states no size and sha256 of rows.parquet"):
        resolve("ours/rows", "dataset", choice.named("rows.parquet"))


def test_a_page_for_a_small_file_is_one_line(root, hub):
    hub.instead["config.json"] = PAGE
    with pytest.raises(UserError, match=r"ours/llm: Hugging Face: sends a web page for config.json"):
        resolve("ours/llm", "model", choice.language_model(None))


def test_a_name_that_is_none_is_one_line(root, hub):
    with pytest.raises(UserError, match=r"a//b: Hugging Face: a repository is named owner/name"):
        resolve("a//b", "model", choice.vision_tower)

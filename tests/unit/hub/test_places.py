"""Two places: ModelScope steps in where Hugging Face cannot, and every byte is still the pinned one."""

import re
import shutil

import pytest

from minivlm.errors import UserError
from minivlm.hub import fetch
from tests.hub_server import files_of
from tests.unit.hub.conftest import pin_of, write


def mirror(root, scope, repo="ours/llm", name=None):
    shutil.copytree(root / "models" / repo, scope.root / "models" / (name or repo))


def whole(root, pin, **options):
    [folder] = fetch([pin], **options)
    source = {path: file.read_bytes() for path, file in files_of(root / "models/ours/llm").items()}
    assert {path: file.read_bytes() for path, file in files_of(folder).items()} == source


def test_modelscope_serves_where_hugging_face_cannot_be_reached(root, scope, waits):
    mirror(root, scope)
    whole(root, pin_of(root, "model", "ours/llm"), downloads=1)
    assert waits == [1, 2]  # found out once, not for every file


def test_modelscope_serves_a_repository_that_is_gated(root, hub, scope):
    hub.gated.add("ours/llm")
    mirror(root, scope)
    whole(root, pin_of(root, "model", "ours/llm"))


def test_modelscope_serves_a_file_that_is_gone(root, hub, scope):
    pin = pin_of(root, "model", "ours/llm")
    mirror(root, scope)
    shutil.rmtree(root / "models/ours/llm")
    [folder] = fetch([pin])
    assert set(files_of(folder)) == set(pin.files)


def test_modelscope_knows_a_repository_by_another_name(root, scope):
    mirror(root, scope, name="theirs/copy")
    whole(root, pin_of(root, "model", "ours/llm", modelscope="theirs/copy"), place="modelscope")


def test_a_changed_copy_at_modelscope_is_refused(root, scope):
    mirror(root, scope)
    write(scope.root, "models/ours/llm/config.json", b'{"model_type": "lama!"}')
    with pytest.raises(UserError, match=r"config.json of ours/llm: ModelScope: sends other bytes"):
        fetch([pin_of(root, "model", "ours/llm")], place="modelscope")


def test_a_download_that_one_place_began_the_other_ends(root, hub, scope):
    mirror(root, scope)
    write(scope.root, "models/ours/llm/README.md", b"a copy, with a history of its own")
    hub.misbehave("model.safetensors", "drop")
    hub.misbehave("model.safetensors", "status", times=100)
    whole(root, pin_of(root, "model", "ours/llm"))
    asked = scope.bodies("model.safetensors")
    assert [(r.range, r.status) for r in asked] == [("bytes=100000-", 404), ("bytes=100000-", 206)]


def test_each_place_alone_does_not_ask_the_other(root, hub, scope):
    mirror(root, scope)
    pin = pin_of(root, "model", "ours/llm")
    fetch([pin], place="huggingface")
    assert scope.log == []
    hub.log.clear()
    shutil.rmtree(fetch([pin])[0].parents[1])
    fetch([pin], place="modelscope")
    assert hub.log == []


def test_what_both_places_said_is_told(root, hub, scope):
    hub.gated.add("ours/llm")
    with pytest.raises(UserError) as told:
        fetch([pin_of(root, "model", "ours/llm", modelscope="theirs/copy")])
    assert "Hugging Face: ours/llm is gated" in str(told.value)
    assert re.search(r"ModelScope: has no \S+ in theirs/copy \(HTTP 404\)", str(told.value))


def test_tokens_go_each_to_its_own_place(root, scope, monkeypatch):
    mirror(root, scope)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms_secret")
    fetch([pin_of(root, "model", "ours/llm")])
    assert {(r.authorization, r.cookie) for r in scope.log} == {("Bearer ms_secret", "m_session_id=ms_secret")}


def test_the_older_name_of_the_address_holds_too(root, scope, monkeypatch):
    mirror(root, scope)
    monkeypatch.delenv("MODELSCOPE_ENDPOINT")
    monkeypatch.setenv("MODELSCOPE_DOMAIN", scope.url)
    fetch([pin_of(root, "model", "ours/llm")], place="modelscope")
    assert scope.log


def test_an_unknown_place_is_named(root, environment):
    with pytest.raises(UserError, match=r"runtime.hub = 'mars'"):
        fetch([pin_of(root, "model", "ours/llm")], place="mars")

"""Finding the parts that exist: pins for the hub, folders and their hashes, and what is missing in one line."""

from pathlib import Path

import pytest

from minivlm import hub
from minivlm.config import Base
from minivlm.errors import UserError
from minivlm.files import sha256_tree
from minivlm.training.brought import find_parts
from tests.unit.training.test_base import SECTION

REVISION, SHA = "a" * 40, "b" * 64
HUB = {
    "repo": "owner/name",
    "modelscope": "other/name",
    "revision": REVISION,
    "files": {"config.json": {"size": 3, "sha256": SHA}},
}


def section(source="train", **parts):
    """The toy section of test_base; each part named is given its values."""
    values = SECTION.model_dump(exclude_none=True) | {"source": source}
    for part, changed in parts.items():
        values[part] |= changed
    return Base.model_validate(values)


@pytest.fixture
def fetched(monkeypatch):
    """What was asked of the hub, which gives a folder for each pin."""
    calls = []

    def fetch(pins, **options):
        calls.append((pins, options))
        return [Path("/hub") / pin.name for pin in pins]

    monkeypatch.setattr(hub, "fetch", fetch)
    return calls


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tower").mkdir()
    (tmp_path / "tower" / "config.json").write_text("{}")
    return tmp_path / "tower"


@pytest.mark.parametrize("source", ["train", "random"])
def test_what_is_made_here_asks_no_hub(fetched, tmp_path, source):
    assert find_parts(section(source), tmp_path) == {}
    assert fetched == []


def test_pins_are_named_for_their_parameters_and_fetched_together(fetched, tmp_path):
    of = section("hub", vision_tower={"pretrained": HUB}, llm={"pretrained": HUB}, tokenizer={"pretrained": HUB})
    found = find_parts(of, tmp_path, place="modelscope", downloads=7)
    [(pins, options)] = fetched
    names = [f"base.{part}.pretrained" for part in ("vision_tower", "llm", "tokenizer")]
    files = {"config.json": (3, SHA)}
    assert pins == [hub.Pin(name, "owner/name", "model", REVISION, files, "other/name") for name in names]
    assert options == {"place": "modelscope", "downloads": 7}
    assert [*found.values()] == [Path("/hub") / name for name in names]


def test_a_missing_revision_is_left_to_the_hub_to_say(fetched, tmp_path):
    find_parts(section(llm={"source": "hub", "pretrained": {"repo": "owner/name"}}), tmp_path)
    [([pin], _)] = fetched
    assert (pin.name, pin.revision) == ("base.llm.pretrained", None)


@pytest.mark.parametrize("absolute", [False, True])
def test_a_folder_is_found_from_the_repository_root_or_anywhere(fetched, folder, absolute):
    place = {"path": str(folder) if absolute else "tower", "sha256": sha256_tree(folder)}
    of = section(vision_tower={"source": "local", "pretrained": place})
    assert find_parts(of, folder.parent) == {"vision_tower": folder}
    assert fetched == []


def test_parts_come_from_different_places(fetched, folder):
    place = {"path": "tower", "sha256": sha256_tree(folder)}
    tower = {"source": "random"}
    of = section("hub", vision_tower=tower, llm={"pretrained": HUB}, tokenizer={"pretrained": place})
    assert find_parts(of, folder.parent) == {"llm": Path("/hub/base.llm.pretrained"), "tokenizer": folder}


def refused(of, root, *words):
    with pytest.raises(UserError) as caught:
        find_parts(of, root)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_changed_folder_is_refused_with_both_hashes(fetched, folder):
    before = sha256_tree(folder)
    (folder / "config.json").write_text("{ }")
    of = section(vision_tower={"source": "local", "pretrained": {"path": "tower", "sha256": before}})
    refused(of, folder.parent, str(folder), before, sha256_tree(folder), "base.vision_tower.pretrained")


def test_a_folder_without_a_hash_is_refused_with_the_hash_it_has(fetched, folder):
    of = section(llm={"source": "local", "pretrained": {"path": "tower"}})
    refused(of, folder.parent, "base.llm.pretrained.sha256: missing", sha256_tree(folder))


MISSING = [
    (section("hub"), "base.vision_tower.pretrained: missing"),
    (section(llm={"source": "local"}), "base.llm.pretrained: missing"),
    (section(llm={"source": "hub", "pretrained": {}}), "base.llm.pretrained.repo: missing"),
    (section(llm={"source": "local", "pretrained": {}}), "base.llm.pretrained.path: missing"),
    (section(llm={"source": "local", "pretrained": {"path": "none", "sha256": SHA}}), "none: no such folder"),
    (section(tokenizer={"pretrained": HUB}), "base.llm.source train the tokenizer is trained"),
    (
        section(llm={"source": "hub", "pretrained": HUB}, tokenizer={"pretrained": {}}),
        "base.tokenizer.pretrained: needs one of repo",
    ),
    (
        section(llm={"source": "hub", "pretrained": HUB}, tokenizer={"pretrained": HUB | {"path": "a"}}),
        "base.tokenizer.pretrained: needs one of repo",
    ),
]


@pytest.mark.parametrize(("of", "words"), MISSING, ids=[words for _, words in MISSING])
def test_what_is_missing_is_named(fetched, tmp_path, of, words):
    refused(of, tmp_path, words)
    assert fetched == []


def test_a_folder_that_cannot_be_read_is_told_in_one_line(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path / "config.json"))

    monkeypatch.setattr("minivlm.training.brought.sha256_tree", refuse)
    place = {"pretrained": {"path": "tower", "sha256": SHA}, "source": "local"}
    with pytest.raises(UserError, match=r"tower/config\.json: cannot be read: Permission denied$"):
        find_parts(section(vision_tower=place), folder.parent)

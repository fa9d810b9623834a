"""`minivlm pin`: names become pins in params.yaml, every comment stays, and what is pinned can be fetched."""

import shutil

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from minivlm import paths as project_paths
from minivlm.cli.main import app
from minivlm.config import load_params
from minivlm.files import sha256_file, sha256_tree
from minivlm.hub import Pin, fetch
from minivlm.paths import Paths
from tests.unit.hub.conftest import environment, hub, pin_of, root, waits, write

__all__ = ["environment", "hub", "root", "waits"]  # fixtures

COMMITTED = Paths()
LLM = """\
  llm:
    pretrained:
      # the language model
      repo: ours/llm   # ours

    # its width
    hidden_size: 192
"""
ROWS = """\
  hub:
    sft:
      repo: ours/rows
      rows: data/sft.jsonl
      images: sft images.zip   # beside them

validate:
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with the committed params.yaml, that the command takes for the checkout."""
    (tmp_path / "params.yaml").write_bytes(COMMITTED.params.read_bytes())
    monkeypatch.setattr(project_paths, "project_root", lambda: tmp_path)
    return tmp_path


def edit(checkout, *changes: tuple[str, str]) -> str:
    text = (checkout / "params.yaml").read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    (checkout / "params.yaml").write_text(text, encoding="utf-8")
    return text


def with_hub(checkout) -> str:
    return edit(checkout, ("  llm:\n    hidden_size: 192\n", LLM), ("\nvalidate:\n", ROWS))


def pin(*arguments):
    return CliRunner().invoke(app, ["pin", *arguments])


def test_a_pin_is_written_fetched_and_then_up_to_date(checkout, root, hub):
    before = with_hub(checkout)
    result = pin()
    assert result.exit_code == 0, result.output
    after = (checkout / "params.yaml").read_text(encoding="utf-8")
    params = load_params(checkout / "params.yaml")
    source, rows = params.base.llm.pretrained, params.download.hub.sft
    assert source is not None and rows is not None
    right = pin_of(root, "model", "ours/llm")
    assert source.revision == right.revision
    files = {path: (file.size, file.sha256) for path, file in source.files.items()}
    assert files == right.files
    fetch([Pin("base.llm.pretrained", "ours/llm", "model", source.revision, files)])
    assert set(rows.files) == {"data/sft.jsonl", "sft images.zip"}
    new = ("revision:", "files:", "sha256:")
    kept = [line for line in after.splitlines() if not any(word in line for word in new)]
    assert kept == before.splitlines()  # comments and blank lines too, each where it was
    again = pin()
    assert again.exit_code == 0 and "is pinned already" in again.output
    assert (checkout / "params.yaml").read_text(encoding="utf-8") == after


def test_a_newer_state_of_a_repository_is_shown_and_written_when_asked_for(checkout, root, hub):
    with_hub(checkout)
    pin()
    shutil.copytree(root / "models/ours/llm", root / "models/ours/llm@before")
    before = (checkout / "params.yaml").read_text(encoding="utf-8")
    write(root, "models/ours/llm/config.json", b'{"model_type": "qwen3"}')
    (root / "models/ours/llm/tokenizer.json").unlink()
    write(root, "models/ours/llm/merges.txt", b"a b")
    assert "is pinned already" in pin("--show").output
    shown = pin("--show", "--update")
    assert (checkout / "params.yaml").read_text(encoding="utf-8") == before
    assert "base.llm.pretrained.files: tokenizer.json is no longer pinned" in shown.output
    assert "base.llm.pretrained.files: merges.txt: (new) → 3 bytes" in shown.output
    assert "base.llm.pretrained.files: config.json: 23 bytes" in shown.output
    assert "model.safetensors" not in shown.output and "download.hub" not in shown.output
    assert pin("--update").exit_code == 0
    after = (checkout / "params.yaml").read_text(encoding="utf-8")
    assert "\n\n    # its width\n    hidden_size" in after and "tokenizer.json" not in after


@pytest.fixture
def parquet(root):
    """The rows have become Parquet; the JSON lines are an older state, tagged v1. Returns that state's pin."""
    (root / "datasets/ours/rows").rename(root / "datasets/ours/rows@v1")
    write(root, "datasets/ours/rows/sft.parquet", b"rows")
    return pin_of(root, "dataset", "ours/rows@v1")


def rows_pin(checkout):
    rows = load_params(checkout / "params.yaml").download.hub.sft
    return rows.revision, {path: (file.size, file.sha256) for path, file in rows.files.items()}


def test_an_older_revision_is_pinned_by_its_tag_or_commit_and_kept(checkout, root, hub, parquet):
    with_hub(checkout)
    refused = pin()
    assert refused.exit_code == 2 and "has no data/sft.jsonl" in refused.stderr
    for reference in ("v1", parquet.revision):
        result = pin("--revision", f"download.hub.sft={reference}")
        assert result.exit_code == 0, result.output
        assert rows_pin(checkout) == (parquet.revision, parquet.files)
    assert "is pinned already" in pin().output
    fetch([parquet._replace(repo="ours/rows")])
    assert "has no data/sft.jsonl" in pin("--update").stderr


@pytest.mark.parametrize("reference", ["v1", None])
def test_a_revision_that_stands_there_is_resolved(checkout, root, hub, parquet, reference):
    with_hub(checkout)
    written = f"      repo: ours/rows\n      revision: {reference or parquet.revision}\n"
    edit(checkout, ("      repo: ours/rows\n", written))
    assert pin().exit_code == 0
    assert rows_pin(checkout) == (parquet.revision, parquet.files)


def test_one_revision_is_set_and_the_others_are_updated(checkout, root, hub, parquet):
    with_hub(checkout)
    assert pin("--revision", "download.hub.sft=v1").exit_code == 0
    write(root, "models/ours/llm/config.json", b'{"model_type": "qwen3"}')
    assert pin("--update", "--revision", "download.hub.sft=v1").exit_code == 0
    source = load_params(checkout / "params.yaml").base.llm.pretrained
    assert source.revision == pin_of(root, "model", "ours/llm").revision
    assert rows_pin(checkout)[0] == parquet.revision


@pytest.mark.parametrize(
    ("revision", "line"),
    [
        ("download.hub.sft", "must be KEY=REF"),
        ("download.hub.sft=", "must be KEY=REF"),
        ("download.sft=v1", "there are: download.hub.sft, base.llm.pretrained"),
        ("download.hub.sft=v9", "download.hub.sft: ours/rows: Hugging Face: ours/rows has no such revision"),
    ],
)
def test_a_revision_that_cannot_be_meant_is_one_line(checkout, root, hub, revision, line):
    before = with_hub(checkout)
    result = pin("--revision", revision)
    assert result.exit_code == 2 and line in result.stderr and len(result.stderr.splitlines()) == 1
    assert (checkout / "params.yaml").read_text(encoding="utf-8") == before


def test_one_section_leaves_the_other_alone(checkout, root, hub):
    with_hub(checkout)
    assert pin("--section", "base").exit_code == 0
    params = load_params(checkout / "params.yaml")
    assert params.download.hub.sft is not None and params.download.hub.sft.revision is None
    assert all("rows" not in request.path for request in hub.log)


def test_local_files_and_folders_get_their_hashes_without_a_network(checkout, environment):
    write(checkout, "own/sft.jsonl", b"{}\n")
    write(checkout, "own/pictures/a.jpg", b"jpeg")
    write(checkout, "own/tower/config.json", b"{}")
    write(checkout, "own/text.jsonl", b"{}\n")
    edit(
        checkout,
        ("  local:\n", "  local:\n    sft:\n      path: own/sft.jsonl\n      images: own/pictures\n"),
        ("  vision_tower:\n", "  vision_tower:\n    pretrained: {path: own/tower}\n"),
        ("base:\n", "base:\n  texts:\n  - path: own/text.jsonl   # mine\n    limit: 3\n"),
    )
    result = pin()
    assert result.exit_code == 0, result.output
    params = load_params(checkout / "params.yaml")
    sft, tower = params.download.local.sft, params.base.vision_tower.pretrained
    assert sft is not None and tower is not None
    assert (sft.sha256, sft.images_sha256) == (
        sha256_file(checkout / "own/sft.jsonl"),
        sha256_tree(checkout / "own/pictures"),
    )
    assert tower.sha256 == sha256_tree(checkout / "own/tower")
    assert [text.sha256 for text in params.base.texts] == [sha256_file(checkout / "own/text.jsonl")]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("threads: 2", "threads: 2", "names no source to pin"),
        (
            "  local:\n",
            "  local:\n    sft: {path: own/none.jsonl}\n",
            "/own/none.jsonl does not exist",
        ),
        (
            "base:\n",
            "base:\n  texts: [{path: ~/text.jsonl}]\n",
            "/~/text.jsonl does not exist",
        ),
        ("  local:\n", "  local:\n    sft: none.jsonl\n", "download.local.sft must be a mapping"),
        ("  local:\n", "  hub:\n    sft: {repo: ours/rows}\n  local:\n", "download.hub.sft.rows must be a text"),
        ("base:\n", "base:\n  texts: [a.jsonl]\n", "base.texts.0 must be a mapping"),
        ("seed: 20", "seed: [", "not valid YAML"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(checkout, environment, monkeypatch, old, new, line):
    write(checkout, "home/text.jsonl", b"{}\n")
    monkeypatch.setenv("HOME", str(checkout / "home"))  # no stage looks there for ~
    before = edit(checkout, (old, new))
    result = pin()
    assert result.exit_code == 2 and result.stdout == ""
    assert line in result.stderr and len(result.stderr.splitlines()) == 1
    assert (checkout / "params.yaml").read_text(encoding="utf-8") == before


def test_another_mistake_in_params_yaml_is_found_before_writing(checkout, root, hub):
    before = with_hub(checkout).replace("threads: 2", "threads: none")
    (checkout / "params.yaml").write_text(before, encoding="utf-8")
    result = pin()
    assert result.exit_code == 2 and "threads" in result.stderr
    assert (checkout / "params.yaml").read_text(encoding="utf-8") == before


def test_an_unknown_section_is_named(checkout):
    result = pin("--section", "sft")
    assert result.exit_code == 2 and "--section sft: must be download or base" in result.stderr


def test_a_repository_without_weights_or_a_network_is_one_line(checkout, root, hub, monkeypatch):
    with_hub(checkout)
    (root / "models/ours/llm/model.safetensors").unlink()
    result = pin("--section", "base")
    assert result.exit_code == 2 and "base.llm.pretrained: ours/llm: has no weights" in result.stderr
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    result = pin()
    assert result.exit_code == 2 and "cannot be reached" in result.stderr and len(result.stderr.splitlines()) == 1


def test_every_pin_of_the_committed_files_is_whole():
    """No revision without files, no files without a revision, in params.yaml and in every profile."""
    for path in [COMMITTED.params, *sorted(COMMITTED.profiles.glob("*.yaml"))]:
        for section in _mappings(YAML(typ="safe", pure=True).load(path)):
            if "repo" in section:
                assert bool(section.get("revision")) == bool(section.get("files")), path.name


def _mappings(value):
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from _mappings(each)

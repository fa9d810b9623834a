"""`--dry-run` of every stage: one JSON document, nothing written, no network, no heavy start."""

import json
import socket

import pytest
from typer.testing import CliRunner

from minivlm import paths as project_paths
from minivlm.config import load_params, parse_params
from minivlm.errors import UserError
from minivlm.files import sha256_tree
from minivlm.paths import STAGES
from minivlm.planning import plan
from minivlm.stage import stage_app

PROFILES = ["", "tiny", "photos", "4090", "26m-random"]


@pytest.fixture
def no_network(monkeypatch):
    def connect(*_):
        raise AssertionError("a plan asked the network")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)


def leaves(tree, path=()):
    """(path, value) of everything in a tree that is no mapping."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("profile", PROFILES)
def test_every_stage_has_a_plan_under_every_profile(with_profile, checkout, no_network, profile, stage):
    params, _ = with_profile(profile)
    before = sha256_tree(checkout.root)
    planned = plan(stage, params, checkout)
    assert sha256_tree(checkout.root) == before
    assert planned["memory_why"] if planned["memory"] is None else planned["memory"]["bytes"] > 0
    assert planned["disk"]["free"]["bytes"] > 0
    for path, value in leaves(json.loads(json.dumps(planned))):
        if value is None:  # what is not known says why, or how much it is at most
            *above, name = path
            tree = planned
            for key in above:
                tree = tree[key]
            assert {f"{name}_why", f"{name}_at_most", f"{name}_at_least"} & tree.keys(), path


@pytest.mark.parametrize("stage", STAGES)
def test_a_dry_run_prints_configuration_and_plan_as_one_document(checkout, monkeypatch, no_network, stage):
    monkeypatch.setattr(project_paths, "project_root", lambda: checkout.root)

    def run(_):
        raise AssertionError("a dry run started the stage")

    before = sha256_tree(checkout.root)
    result = CliRunner().invoke(stage_app(stage, "", run), ["--dry-run"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    params = load_params(checkout.params)
    assert document[stage] == params.section(stage).model_dump(mode="json")
    assert document["plan"]["disk"]["free"]["bytes"] > 0
    assert list(document) == [stage, "plan"]
    assert sha256_tree(checkout.root) == before


def test_a_device_that_is_not_there_ends_the_plan_in_one_line(checkout, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    values = load_params(checkout.params).model_dump(by_alias=True)
    values["runtime"]["device"] = "cuda:0"
    with pytest.raises(UserError, match="no CUDA device here"):
        plan("sft", parse_params(values), checkout)


def test_another_name_than_a_stages_is_refused(with_profile, checkout):
    params, _ = with_profile("")
    with pytest.raises(UserError, match="no stage 'tune'; there are: download"):
        plan("tune", params, checkout)


def test_texts_are_counted_and_their_packed_tokens_left_open(with_profile, checkout):
    params, _ = with_profile("")
    (checkout.root / "t.jsonl").write_text('{"text": "a"}\n' * 5, encoding="utf-8")
    values = params.model_dump(by_alias=True)
    values["base"]["texts"] = [{"path": "t.jsonl", "sha256": "0" * 64, "limit": 3}]
    planned = plan("base", parse_params(values), checkout)["language_model"]
    assert planned["texts"]["t.jsonl"]["lines"] == 3
    assert planned["tokens"] is None and "packed" in planned["tokens_why"]


def test_evaluation_asks_both_models_about_every_picture(with_profile, checkout):
    params, _ = with_profile("26m-random")
    planned = plan("evaluate", params, checkout)
    shown = len(json.loads(checkout.questions.read_text(encoding="utf-8")))
    assert planned["captions_at_most"] == 2 * (4 + 4 + shown)
    assert planned["tokens_at_most"] == 16 * planned["captions_at_most"]

"""`minivlm params`: values, explanations and docs/parameters.md, all from the typed sections."""

import re
import shutil

import pytest
from typer.testing import CliRunner

from minivlm import paths as project_paths
from minivlm.cli.main import app
from minivlm.cli.params import Stages, markdown
from minivlm.config import load_params
from minivlm.config.explain import groups, parameters, values
from minivlm.paths import Paths
from tests.contract.imports import ROOT


def run(*arguments):
    return CliRunner().invoke(app, ["params", *arguments])


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout of its own, whose params.yaml may be changed."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.setattr(project_paths, "project_root", lambda: tmp_path)
    return tmp_path


def test_every_key_is_explained_and_typed():
    found = parameters()
    assert len(found) > 100
    assert [key for key, one in found.items() if not one.about or not one.kind] == []
    assert [group.key for group in groups() if group.key and not group.about] == []


def test_every_value_in_force_is_that_of_a_key_that_is_explained():
    known = parameters()
    present = {re.sub(r"\.gpu_hour$", ".gpu_hour", key) for key, _, _ in values(load_params(Paths().params))}
    sections = {group.key for group in groups()} | {group.key.removesuffix("[]") for group in groups()}
    assert present - known.keys() - sections == set()


def test_a_key_is_told_with_type_range_default_value_and_stages(checkout):
    result = run("sft.accumulation", "--explain")
    assert result.exit_code == 0, result.output
    assert result.stdout == (
        "sft.accumulation\n"
        "    micro-batches in an optimizer step\n"
        "    whole number, 1 to 1,000,000,000; default 1; now 1\n"
        "    stages: sft; then evaluate\n\n"
    )
    told = run("runtime.device", "--explain").stdout
    assert "no stage depends on it" in told
    assert 'first_last, llm; required; now "projector"' in run("pretrain.freeze", "--explain").stdout
    assert "stages: download, base" in run("seed", "--explain").stdout


def test_a_section_is_told_whole(checkout):
    told = run("base.llm", "--explain").stdout
    assert "base.llm.heads\n" in told and "base.llm.pretrained.repo\n" in told and "sft" not in told.split("\n")[0]
    everything = run("--explain").stdout
    assert all(f"\n{key}\n" in f"\n{everything}" for key in parameters())


def test_values_in_force_are_one_a_line_and_defaults_are_marked(checkout):
    lines = run().stdout.splitlines()
    assert "sft.batch_tokens: 2048" in lines
    assert "sft.accumulation: 1  # default" in lines
    assert 'evaluate.question_sft: "请详细描述这张图片。"' in lines
    assert run("sft.freeze").stdout == 'sft.freeze: "llm"\n'


def test_nothing_is_coloured_where_nobody_looks(checkout):
    assert "\x1b" not in run("--explain").stdout + run().stdout


def test_a_file_in_a_list_and_one_in_a_mapping_are_found(checkout):
    path = checkout / "params.yaml"
    entry = f"base:\n  texts: [{{path: a.jsonl, sha256: {'a' * 64}}}]\n"
    path.write_text(path.read_text(encoding="utf-8").replace("base:\n", entry), encoding="utf-8")
    assert run("base.texts[0].path").stdout == 'base.texts[0].path: "a.jsonl"\n'
    assert 'now "a.jsonl" (base.texts[0].path)' in run("base.texts[0].path", "--explain").stdout
    assert run("base.texts[0].limit").stdout == "base.texts[0].limit: 0  # default\n"


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("sft.lerning_rate", "sft.learning_rate"),
        ("sftt", "sft"),
        ("base.vision_towr", "base.vision_tower"),
        ("sft.max_length", "tokenize.max_length"),
    ],
)
@pytest.mark.parametrize("explain", [[], ["--explain"]])
def test_an_unknown_key_names_the_nearest(checkout, key, near, explain):
    result = run(key, *explain)
    assert result.exit_code == 2
    assert result.stderr == f"error: no parameter {key!r}; did you mean {near!r}?\n"


def test_parameters_at_fault_are_one_line_and_exit_code_2(checkout):
    path = checkout / "params.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("threads:", "thread:"), encoding="utf-8")
    result = run("--explain")
    assert result.exit_code == 2
    assert result.stderr == "error: params.yaml: unknown key 'thread' = 2; did you mean 'threads'?\n"


def test_stages_are_those_of_dvc_yaml():
    stages = Stages({"a": {"params": ["x", "seed"], "outs": ["o/a"]}, "b": {"params": ["x.y"], "deps": ["o/a/f"]}})
    assert stages.told("x.y.z") == "stages: a, b"
    assert stages.told("seed") == "stages: a; then b"
    assert stages.told("xy") == "no stage depends on it"


def test_the_fault_that_the_page_shows_is_told_so(checkout):
    path = checkout / "params.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("\nsft:\n", "\nsft:\n  max_length: 512\n"))
    result = run()
    assert result.exit_code == 2 and result.stderr in markdown(Stages.read(ROOT / "dvc.yaml"))


def test_the_committed_page_is_current():
    text = (ROOT / "docs" / "parameters.md").read_text(encoding="utf-8")
    assert markdown(Stages.read(ROOT / "dvc.yaml")) == text, "run `minivlm params --write`"
    for key in ("max_length", "batch_tokens", "gpu_hour", "images_sha256"):
        assert f"`{key}`" in text


def test_the_page_is_written_where_it_is_kept(checkout):
    (checkout / "docs").mkdir()
    assert run("--write").exit_code == 0
    assert (checkout / "docs/parameters.md").read_text() == (ROOT / "docs/parameters.md").read_text()

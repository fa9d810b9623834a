"""profiles/: each one merges, is valid, changes something, and is explained; the full recipe is the original's."""

import json
import math
import re

import pytest
from ruamel.yaml import YAML

from minivlm.cli.profile import merged
from minivlm.config import load_params, parse_params
from minivlm.paths import Paths
from minivlm.planning import plan
from minivlm.training.schedule import learning_rate
from tests.contract.imports import ROOT

PROFILES = sorted((ROOT / "profiles").glob("*.yaml"))


def values(path):
    return YAML(typ="safe", pure=True).load(path) or {}


def with_profile(name):
    text, _ = merged(ROOT / "params.yaml", ROOT / "profiles" / f"{name}.yaml")
    return parse_params(YAML(typ="safe", pure=True).load(text))


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_a_profile_is_valid_and_changes_something(path):
    text, changes = merged(ROOT / "params.yaml", path)  # unknown keys and wrong values end in a UserError
    assert changes
    assert parse_params(YAML(typ="safe", pure=True).load(text)) != load_params(ROOT / "params.yaml")


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_a_profile_says_first_what_it_is_for_and_the_documentation_names_it(path):
    assert path.read_text(encoding="utf-8").startswith("# ")
    assert f"`{path.stem}`" in (ROOT / "docs/profiles.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("stage", ["pretrain", "sft"])
@pytest.mark.parametrize("profile", ["4090", "26m-random"])
def test_the_learning_rate_is_the_originals_at_every_step(profile, stage):
    """lr / 10 + lr / 2 (1 + cos(pi step / steps)), by `get_lr` of the original's trainers; named 4e-4 and 1e-6."""
    section, named, steps = getattr(with_profile(profile), stage), {"pretrain": 4e-4, "sft": 1e-6}[stage], 1000
    for step in (1, 250, 500, 999, 1000):
        ours = learning_rate(
            step, steps, section.learning_rate, section.warmup_ratio, section.min_learning_rate_ratio
        )
        theirs = [named / 10 + named / 2 * (1 + math.cos(math.pi * s / steps)) for s in (step - 1, step)]
        assert theirs[1] * (1 - 1e-6) <= ours <= theirs[0] * (1 + 1e-6)  # its count starts at 0


def test_both_profiles_of_the_full_size_have_the_same_lengths_and_schedules():
    full, random = with_profile("4090"), with_profile("26m-random")
    assert full.tokenize.max_length == random.tokenize.max_length == 1536
    for stage in ("pretrain", "sft"):
        one, other = getattr(full, stage).model_dump(), getattr(random, stage).model_dump()
        for key in ("freeze", "learning_rate", "min_learning_rate_ratio", "warmup_ratio", "batch_tokens"):
            assert one[key] == other[key]
    assert (full.pretrain.epochs, full.sft.epochs) == (4, 6)


def test_the_plan_in_the_documentation_is_the_one_that_is_printed(tmp_path):
    """Its numbers, on the machine that it names; what a machine has and what is free there is left out."""
    values = with_profile("4090").model_dump(by_alias=True)
    values["sft"]["precision"], values["runtime"]["device"] = "bf16", "cpu"
    planned = plan("sft", parse_params(values), Paths(tmp_path))
    text = (ROOT / "docs/profiles.md").read_text(encoding="utf-8")
    shown = json.loads(re.findall(r"^```json\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)[0])
    memory = {key: planned["memory"][key] for key in shown["memory"]}
    assert shown == {key: planned[key] for key in shown} | {"memory": memory}


@pytest.mark.parametrize("policy", ["projector", "projector+last_layer", "first_last", "llm"])
def test_the_table_of_weights_in_the_documentation_is_counted(tmp_path, policy):
    values = with_profile("26m-random").model_dump(by_alias=True)
    values["sft"]["freeze"] = policy
    counted = plan("sft", parse_params(values), Paths(tmp_path))["parameters"]
    text = (ROOT / "docs/profiles.md").read_text(encoding="utf-8")
    assert [name for name, number in counted.items() if f"{number:,}" not in text] == []


def test_no_profile_pins_what_nobody_here_could_check():
    """Commits and hashes of hub files are looked up by `minivlm pin`, on a machine that reaches the hub."""

    def keys(tree):
        for key, value in tree.items() if isinstance(tree, dict) else ():
            yield key
            yield from keys(value)

    for path in PROFILES:
        assert not {"revision", "files"} & set(keys(values(path))), path.name

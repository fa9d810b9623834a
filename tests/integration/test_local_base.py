"""The stage commands on a base of other families, named in params.yaml by their folders."""

import json

import pytest
from ruamel.yaml import YAML

from minivlm.paths import STAGES
from tests.families import FAMILIES
from tests.integration.checkout import Checkout, stages_run

pytestmark = [pytest.mark.slow, pytest.mark.long]


def test_siglip2_and_qwen3_go_through_all_seven_stages(tmp_path):
    family = FAMILIES["siglip2+qwen3"]
    tower, llm = tmp_path / "tower", tmp_path / "llm"
    family.tower(tower)
    family.llm(llm)
    checkout = Checkout(tmp_path)
    yaml = YAML()
    path = checkout.root / "params.yaml"
    params = yaml.load(path)
    params["base"]["source"] = "local"
    params["base"]["vision_tower"]["pretrained"] = {"path": "../tower"}
    params["base"]["llm"]["pretrained"] = {"path": "../llm"}
    yaml.dump(params, path)
    assert "sha256" in checkout.minivlm("pin", "--section", "base")

    assert stages_run(checkout.run("dvc", "repro")) == list(STAGES)

    model = checkout.root / "artifacts/sft/model"
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    assert config["vision_config"]["model_type"] == "siglip_vision_model", "NaFlex, made a tower of one resolution"
    assert config["text_config"]["model_type"] == "qwen3"
    assert config["vision_feature_select_strategy"] == "full"
    card = (model / "README.md").read_text(encoding="utf-8")
    assert "license: other" in card and "a vision tower of your own" in card
    metrics = json.loads((checkout.root / "reports/evaluate/metrics.json").read_text(encoding="utf-8"))
    assert set(metrics) == {"pretrain", "sft"}

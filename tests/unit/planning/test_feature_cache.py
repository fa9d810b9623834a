"""Estimates and plans of a training that keeps the features of its pictures."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from minivlm.data.features import FeatureStore
from minivlm.data.store import TokenStore
from minivlm.files import read_json
from minivlm.model.vision_language import VisionLanguageLoss
from minivlm.planning import plan_with
from minivlm.planning.assumptions import Asked
from minivlm.planning.estimate import estimate
from minivlm.planning.filling import beside
from minivlm.planning.present import Present
from minivlm.training import cost
from minivlm.training.feature_cache import features_key
from tests.unit.model.tiny import IMAGE_TOKENS
from tests.unit.planning.toys import STAGES, STATED, cached, toy_params, write_checkout


def test_a_feature_cache_costs_a_pass_of_the_tower_and_disk(with_profile):
    params, present = with_profile("4090")
    asked = Asked(stages=STAGES, paper=True, **STATED)
    without, found = (estimate(each, present, asked) for each in (params, cached(params)))
    tower = cost.vision_forward_flops(cost.VisionShape(768, 12, 3072, 224, 16), 1)
    for stage, rows in STATED["rows"].items():
        entry = found["stages"][stage]
        assert entry["features"]["fill_flops"] == rows * tower
        assert entry["features"]["needed"]["bytes"] == 895_000 * 196 * 768 * 2  # of both, at the first of them
        assert entry["features"]["needed_at_least"]["bytes"] == 595_000 * 196 * 768 * 2  # sft shows no others
        seconds = (entry["flops"] + entry["validation_flops"] + rows * tower) / (165.2e12 * 0.4)
        assert entry["seconds"]["expected"] == pytest.approx(max(seconds, 0.0075 * entry["steps"]), rel=1e-3)
        assert entry["flops"] < without["stages"][stage]["flops"] and "features" not in without["stages"][stage]
    for end, pictures in (("low", 595_000), ("high", 895_000)):
        shared = pictures * 196 * 768 * 2
        assert found["total"]["disk"][end] == without["total"]["disk"][end] + shared
    assert plan_with("sft", cached(params), present)["features"] is None  # rows are not known before the download


def test_a_plan_has_the_feature_cache_s_disk(with_profile):
    params, present = with_profile("")
    planned = plan_with("sft", cached(params), present)
    rows = [planned["rows_at_most"], plan_with("pretrain", params, present)["rows_at_most"]]
    assert planned["features"]["pictures"] == sum(rows) and planned["features"]["enough"]
    assert planned["features"]["pictures_at_least"] == max(rows)
    assert "features" not in plan_with("sft", params, present)


def test_the_pass_over_a_store_counts_each_of_its_pictures_once(tmp_path, as_it_was):
    paths = write_checkout(tmp_path)
    params = cached(toy_params(paths, epochs=1.0))
    found = estimate(params, Present(paths), Asked(stages=("sft",), seconds=0.1))["stages"]["sft"]
    shown = TokenStore(paths.tokens("sft")).distinct_pictures()
    assert found["exact"] and found["features"]["pictures"] == 8 > len(shown)
    assert found["features"]["filled_pictures"] == len(shown)
    assert 0 < found["features"]["fill_seconds"] < found["seconds"]["expected"]
    assert {"filling", "feature cache"} < {factor["of"] for factor in found["uncertainty"]}


@pytest.mark.parametrize("is_kept", [True, False])
def test_with_a_feature_cache_the_probe_fills_groups_and_its_steps_read(tmp_path, as_it_was, monkeypatch, is_kept):
    paths = write_checkout(tmp_path)
    params, seen = toy_params(paths, epochs=1.0), []
    compute = VisionLanguageLoss.picture_features
    monkeypatch.setattr(
        VisionLanguageLoss,
        "picture_features",
        lambda self, pixels: seen.append(len(pixels)) or compute(self, pixels),
    )
    asked = Asked(stages=("sft",), seconds=0.1)
    found = estimate(cached(params) if is_kept else params, Present(paths), asked)["stages"]["sft"]
    if is_kept:
        assert seen == [8] * (1 + found["features"]["probe_groups"])  # all pictures there are; the first left out
    else:
        assert len(seen) > found["probe_steps"] and "features" not in found


def test_decoding_beside_the_tower_takes_time_where_it_takes_longer():
    assert beside(5.0, decoded=2.0, workers=0) == 5.0
    assert beside(5.0, decoded=2.0, workers=1) == 3.0
    assert beside(5.0, decoded=4.0, workers=2) == 2.0


def test_features_that_are_there_need_no_more_disk(tmp_path, as_it_was, monkeypatch):
    """After pretrain has filled the cache of both, sft's plan asks for no second one."""
    paths = write_checkout(tmp_path)
    layer = read_json(paths.artifacts("base") / "layout.json")["vision_feature_layer"]
    params = cached(toy_params(paths))
    params = params.model_copy(update={"base": params.base.model_copy(update={"vision_feature_layer": layer})})
    planned = plan_with("sft", params, Present(paths))["features"]
    needed = planned["needed"]["bytes"]
    assert planned["kept"]["bytes"] == 0 and needed == planned["needed_at_least"]["bytes"] > 0
    key = features_key(paths.base_part("vision_tower"), paths.tokens("pictures"), layer, "fp32", "cpu")
    store = FeatureStore.create(paths.state / "features" / key, 8, (IMAGE_TOKENS, 24), "fp32")
    assert plan_with("sft", params, Present(paths))["features"]["kept"]["bytes"] < needed  # it has holes
    store.write(np.arange(8), torch.ones(8, IMAGE_TOKENS, 24))
    store.flush()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed // 8))
    found = plan_with("sft", params, Present(paths))["features"]
    assert found["kept"]["bytes"] >= needed and found["enough"]


def test_without_the_other_stage_s_rows_the_cache_has_no_end(with_profile):
    params, present = with_profile("4090")
    hub = params.download.hub
    other = hub.model_copy(update={"pretrain": hub.pretrain.model_copy(update={"repo": "a/b"})})
    params = cached(params.model_copy(update={"download": params.download.model_copy(update={"hub": other})}))
    found = estimate(params, present, Asked(stages=("sft",), paper=True))["stages"]["sft"]["features"]
    assert found["needed"] is None and "rows of pretrain unknown" in found["needed_why"]
    assert found["needed_at_least"]["bytes"] == 300_000 * 196 * 768 * 2

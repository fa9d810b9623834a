"""The plan of a training against that training: the same steps, tokens and weights, and room enough."""

import shutil

import numpy as np
import pytest
import torch

from minivlm.config import load_params, parse_params
from minivlm.data.store import TokenStore
from minivlm.errors import UserError
from minivlm.files import read_json
from minivlm.paths import Paths
from minivlm.planning import plan
from minivlm.planning.rows import tree_bytes
from tests.unit.planning.toys import train_stage, write_checkout

COMMITTED = Paths()
STAGES = {
    "pretrain": {"freeze": "projector", "epochs": 1.4, "batch_tokens": 90, "accumulation": 2},
    "sft": {"freeze": "projector+last_layer", "epochs": 2.0, "batch_tokens": 128, "accumulation": 1},
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return write_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def params(checkout):
    values = load_params(checkout.params).model_dump(by_alias=True)
    for stage, options in STAGES.items():
        values[stage] |= options | {"precision": "fp32"}
    values["tokenize"]["max_length"] = 90
    values["runtime"]["device"] = "cpu"
    return parse_params(values)


@pytest.fixture(scope="module")
def trained(checkout, params):
    """Both stages, planned and then run: {stage: (plan, metrics)}."""
    found, threads = {}, torch.get_num_threads()
    for stage in STAGES:
        planned = plan(stage, params, checkout)
        train_stage(stage, params, checkout)
        metrics = read_json(checkout.reports(stage) / "metrics.json")
        found[stage] = planned, metrics | {"cost": read_json(checkout.reports(stage) / "cost.json")}
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_steps_samples_and_tokens_are_those_of_the_training(trained, stage):
    planned, metrics = trained[stage]
    assert metrics["steps"] > 3
    assert {key: planned[key] for key in ("steps", "samples", "tokens")} == {
        key: metrics[key] for key in ("steps", "samples", "tokens")
    }
    assert planned["padded_tokens"] == metrics["cost"]["padded_tokens"]
    assert (planned["rows"], planned["validation_rows"]) == (35, 5)
    assert planned["rows_from"] == planned["steps_from"] == f"artifacts/tokenize/{stage}"


@pytest.mark.parametrize("stage", STAGES)
def test_the_weights_are_those_trained_and_saved(trained, checkout, stage):
    from safetensors.torch import load_file

    planned, metrics = trained[stage]
    assert planned["parameters"]["trained"] == metrics["trained_parameters"]
    saved = load_file(checkout.model(stage) / "model.safetensors")
    assert planned["parameters"]["saved"] == sum(tensor.numel() for tensor in saved.values())


@pytest.mark.parametrize("stage", STAGES)
def test_the_disk_that_was_planned_holds_the_outputs(trained, checkout, stage):
    planned, _ = trained[stage]
    written = tree_bytes(checkout.artifacts(stage)) + tree_bytes(checkout.reports(stage))
    assert planned["disk"]["needed"]["bytes"] / 200 < written <= planned["disk"]["needed"]["bytes"]


@pytest.mark.parametrize("stage", STAGES)
def test_without_the_store_the_plan_bounds_what_the_training_does(trained, checkout, params, stage, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = Paths(tmp_path)
    shutil.copy(COMMITTED.params, paths.params)
    paths.artifacts("validate").mkdir(parents=True)
    pq.write_table(pa.table({"row": pa.array(range(40), pa.int64())}), paths.accepted(stage))
    short = params.model_copy(update={"tokenize": params.tokenize.model_copy(update={"max_length": 64})})
    planned, (_, metrics) = plan(stage, short, paths), trained[stage]
    assert planned["rows_at_most"] == 40 and planned["rows"] is planned["steps"] is None
    for key in ("steps", "samples", "tokens"):
        assert metrics[key] <= planned[f"{key}_at_most"] <= 12 * metrics[key]
    assert "tokenize has not run" in planned["steps_from"]


def test_a_row_that_does_not_fit_ends_the_plan_as_it_would_the_training(checkout, params):
    small = params.model_copy(update={"sft": params.sft.model_copy(update={"batch_tokens": 8})})
    with pytest.raises(UserError, match="does not fit into batch_tokens"):
        plan("sft", small, checkout)


def test_a_validation_row_that_does_not_fit_ends_the_plan_too(checkout, params, tmp_path):
    paths = Paths(tmp_path / "copy")
    shutil.copytree(checkout.root, paths.root)
    store = TokenStore(paths.tokens("sft"))
    longest = store.lengths == store.lengths.max()
    np.save(paths.tokens("sft") / "validation.npy", longest)
    tight = params.sft.model_copy(update={"batch_tokens": int(store.lengths[~longest].max())})
    with pytest.raises(UserError, match="does not fit into batch_tokens"):
        plan("sft", params.model_copy(update={"sft": tight}), paths)


def test_a_language_model_of_experts_has_no_bound_of_memory_and_says_so(checkout, params, tmp_path):
    from transformers import Qwen3MoeConfig

    paths = Paths(tmp_path / "copy")
    shutil.copytree(checkout.root, paths.root)
    Qwen3MoeConfig(
        vocab_size=272, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        num_experts=4, moe_intermediate_size=16,
    ).save_pretrained(paths.base_part("llm"))  # fmt: skip
    planned = plan("sft", params, paths)
    assert planned["memory"] is None and "qwen3_moe has num_experts" in planned["memory_why"]
    assert planned["parameters"]["trained"] > 0

"""A stopped training goes on as if it had not been: through a file, bit by bit, with either optimizer."""

import json
import random

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from minivlm.errors import UserError
from minivlm.training.muon import MuonWithAdamW
from minivlm.training.optimizer import adamw
from minivlm.training.resume import read_state, write_state
from minivlm.training.resume_key import resume_key
from tests.unit.training.test_loop import Regression, points, train


def test_a_resumed_training_counts_the_devices_of_each_part():
    saved, logged = [], []
    options = {"save_every": 0.0, "on_save": saved.append, "price_per_hour": 3600.0}
    train(Regression(), STEPS, devices=8, **options)
    state = saved[4]
    before = state.result.device_seconds
    assert before == pytest.approx(8 * state.result.seconds)
    result = train(
        Regression(), STEPS[5:], total=12, resume=state, devices=1, price_per_hour=3600.0,
        on_log=lambda step, metrics: logged.append(metrics),
    )  # fmt: skip
    assert result.device_seconds == pytest.approx(before + result.seconds - before / 8)
    assert before < logged[-1]["money"] <= result.device_seconds


class Noisy(Regression):
    """Draws from all generators, so that a state without them gives other losses."""

    def forward(self, batch):
        noise = random.random() + float(np.random.rand()) + torch.rand(())
        return super().forward(batch) * (1 + 0.1 * noise)


STEPS = [[points(4 + i % 3, 2 * i), points(3, 2 * i + 1)] for i in range(12)]


def run(steps=STEPS, seed=7, **options):
    random.seed(seed)
    np.random.seed(seed)
    objective = Noisy()
    losses = iter([3.0, 1.0, 2.0])
    torch.manual_seed(seed)
    if resumed := options.get("resume"):
        losses = iter([1.0, 2.0][-1 if resumed.result.steps >= 8 else 0 :])
    options.setdefault("validate", lambda: next(losses))
    result = train(
        objective, steps, total=len(STEPS), validations=3, log_steps=2, weight_decay=0.1, **options,
    )  # fmt: skip
    return objective, result


@pytest.mark.parametrize("optimizer", [adamw, MuonWithAdamW])
@pytest.mark.parametrize("stop", [5, 8])
def test_it_goes_on_bit_by_bit(tmp_path, optimizer, stop):
    def save(state):
        if state.result.steps == stop:
            write_state(tmp_path / "state.safetensors", state)

    whole, expected = run(optimizer=optimizer, save_every=0.0, on_save=save)
    state = read_state(tmp_path / "state.safetensors")
    assert state.result.steps == stop
    resumed, result = run(STEPS[stop:], seed=8, optimizer=optimizer, resume=state)
    for name, parameter in whole.named_parameters():
        assert torch.equal(parameter, resumed.get_parameter(name))
        assert torch.equal(expected.best_state[name], result.best_state[name])
    assert result.history == expected.history and result.train_loss == expected.train_loss
    assert (result.val_loss, result.best_step) == (expected.val_loss, expected.best_step) == (1.0, 8)
    assert (result.steps, result.samples, result.tokens) == (expected.steps, expected.samples, expected.tokens)


def test_it_is_saved_when_its_time_has_come_and_at_the_end():
    saved = []
    run(save_every=0.0, on_save=lambda state: saved.append(state.result.steps))
    assert saved == list(range(1, 13))
    run(save_every=3600.0, on_save=lambda state: saved.append(state.result.steps))
    assert saved[12:] == [12]
    run(on_save=lambda state: saved.append("unasked"))
    assert len(saved) == 13


@pytest.mark.parametrize("validates", [True, False])
def test_a_trained_end_is_gone_on_with_without_a_step(tmp_path, validates):
    """What a process finds that was stopped while the one before it wrote the model."""
    validate = {} if validates else {"validate": None}
    whole, expected = run(
        save_every=3600.0, on_save=lambda state: write_state(tmp_path / "state.safetensors", state), **validate
    )
    state = read_state(tmp_path / "state.safetensors")
    saved, logged = [], []
    resumed, result = run(
        [], seed=8, resume=state, save_every=3600.0, on_save=saved.append, on_log=lambda *row: logged.append(row),
        **validate,
    )  # fmt: skip
    assert saved == logged == []
    assert result.history == expected.history and result.train_loss == expected.train_loss
    assert (result.val_loss, result.best_step) == (expected.val_loss, expected.best_step)
    for name, parameter in whole.named_parameters():
        assert torch.equal(parameter, resumed.get_parameter(name))
        assert torch.equal(expected.last_state[name], result.last_state[name])
        assert torch.equal(expected.best_state[name], result.best_state[name])


def state_of():
    states = []
    run(save_every=0.0, on_save=states.append)
    return states[4]


def test_the_file_holds_tensors_and_json_alone(tmp_path):
    path = tmp_path / "state.safetensors"
    write_state(path, state_of())
    with safe_open(path, framework="pt") as file:
        names, facts = set(file.keys()), json.loads(file.metadata()["state"])
    assert {
        "parameters:linear.weight",
        "best:linear.bias",
        "optimizer:exp_avg:linear.weight",
        "random:cpu",
    } <= names
    assert facts["result"]["steps"] == 5 and facts["format"] == 1


@pytest.mark.parametrize("damage", ["cut", "empty", "foreign", "newer"])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, damage):
    path = tmp_path / "state.safetensors"
    write_state(path, state_of())
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        save_file({}, path, None if damage == "foreign" else {"state": json.dumps({"format": 99})})
    with pytest.raises(UserError, match=r"state\.safetensors: a .*remove it to train from the start"):
        read_state(path)


def test_a_state_of_other_parameters_is_refused():
    state = state_of()
    objective = Regression()
    objective.linear.bias.requires_grad_(False)
    with pytest.raises(UserError, match="other parameters; remove it"):
        train(objective, STEPS[5:], total=len(STEPS), resume=state)


def test_the_key_is_one_of_parameters_and_contents(tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    (store / "tokens.bin").write_bytes(b"abc")
    key = resume_key({"seed": 1, "epochs": 0.5}, [store])
    assert key == resume_key({"epochs": 0.5, "seed": 1}, [store]) and len(key) == 16
    assert key != resume_key({"seed": 2, "epochs": 0.5}, [store])
    (store / "tokens.bin").write_bytes(b"abd")
    assert key != resume_key({"seed": 1, "epochs": 0.5}, [store])

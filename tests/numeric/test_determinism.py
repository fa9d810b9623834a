"""The same seed and threads give the same bytes on the same machine, in either precision."""

import pytest
import torch

from minivlm.model.llava import assemble
from minivlm.model.vision_language import VisionLanguageLoss
from minivlm.training.device import seed_everything
from minivlm.training.loop import fit
from minivlm.training.mean_loss import mean_loss
from minivlm.training.optimizer import freeze
from tests.unit.model.tiny import MEAN, STD, collate, rows, write_base


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("determinism") / "base")


@pytest.fixture(autouse=True)
def torch_settings():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def train(base, precision, seed):
    seed_everything(seed, threads=2)
    model = assemble(base, seed=seed)
    freeze(model, "llm")
    objective = VisionLanguageLoss(model, MEAN, STD)
    return fit(
        objective,
        [[collate(rows(12, seed=2 * i)), collate(rows(4, seed=2 * i + 1))] for i in range(3)],
        total_steps=3,
        learning_rate=1e-2,
        min_learning_rate_ratio=0.1,
        warmup_ratio=0.2,
        weight_decay=0.01,
        max_grad_norm=1.0,
        precision=precision,
        device="cpu",
        validate=lambda: mean_loss(objective, [collate(rows(8, seed=99))]),
        validations=1,
        log_steps=2,
        on_log=lambda step, metrics: None,
        label="determinism",
        price_per_hour=None,
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_seed_gives_the_same_bytes(base, precision):
    one, same, other = (train(base, precision, seed) for seed in (1, 1, 2))
    assert one.history == same.history and one.val_loss == same.val_loss
    assert all(torch.equal(one.last_state[name], tensor) for name, tensor in same.last_state.items())
    assert any(not torch.equal(one.last_state[name], tensor) for name, tensor in other.last_state.items())


def test_bf16_is_near_fp32(base):
    losses = [train(base, precision, 1).history[0].loss for precision in ("fp32", "bf16")]
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.02)

"""The loop on a linear regression: exact accumulation, best and last state, what stops it, what it counts."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from minivlm.errors import TrainingError, UserError
from minivlm.training.loop import fit
from minivlm.training.mean_loss import mean_loss
from minivlm.training.result import DivergedError


@dataclass(frozen=True)
class Points:
    """Rows of (x, y); each row is one term of the loss, one token, and one token of padding."""

    x: torch.Tensor
    y: torch.Tensor

    @property
    def count(self):
        return len(self.x)

    samples = tokens = count

    @property
    def padded_tokens(self):
        return 2 * len(self.x)

    def to(self, device):
        return Points(self.x.to(device), self.y.to(device))


class Regression(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 2)
        self.seen_dtype = None

    def forward(self, batch):
        predicted = self.linear(batch.x)
        self.seen_dtype = predicted.dtype
        return (predicted.float() - batch.y).square().sum()


def points(number, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(number, 4, generator=generator)
    return Points(x, x[:, :2] * 3 + 1)


def train(objective, steps, *, total=None, validate=None, **options):
    settings = dict(
        learning_rate=0.1,
        min_learning_rate_ratio=0.1,
        warmup_ratio=0.1,
        weight_decay=0.0,
        max_grad_norm=1e9,
        precision="fp32",
        device="cpu",
        validations=2,
        log_steps=5,
        on_log=lambda step, metrics: None,
        label="test",
        price_per_hour=None,
    )
    return fit(objective, steps, total_steps=total or len(steps), validate=validate, **{**settings, **options})


def test_it_learns():
    objective = Regression()
    result = train(objective, [[points(32, i)] for i in range(60)])
    assert result.history[0].loss > 1 and result.train_loss < 0.3
    torch.testing.assert_close(objective.linear.bias.detach(), torch.ones(2), atol=0.5, rtol=0)


def test_accumulation_is_the_big_batch():
    """Micro-batches of 1, 5 and 10 rows weigh by their rows, not each the same."""
    results, weights = [], []
    for parts in ((16,), (1, 5, 10)):
        objective = Regression()
        steps = []
        for i in range(5):
            whole = points(16, i)
            cut = zip(whole.x.split(parts), whole.y.split(parts), strict=True)
            steps.append([Points(x, y) for x, y in cut])
        results.append(train(objective, steps, max_grad_norm=0.5))
        weights.append(objective.linear.weight.detach())
    torch.testing.assert_close(*weights, rtol=1e-6, atol=1e-6)
    assert results[0].train_loss == pytest.approx(results[1].train_loss, rel=1e-6)
    assert results[0].history[-1].grad_norm == pytest.approx(results[1].history[-1].grad_norm, rel=1e-5)


def test_it_counts_what_it_saw():
    result = train(Regression(), [[points(3, 0), points(5, 1)], [points(2, 2)]])
    assert (result.steps, result.micro_batches, result.samples) == (2, 3, 10)
    assert (result.tokens, result.padded_tokens) == (10, 20)
    assert (result.history[-1].samples, result.history[-1].tokens) == (10, 10)


def test_the_best_state_is_kept_and_the_last_one_too():
    objective = Regression()
    losses, weights = iter([2.0, 1.0, 1.5, 3.0]), []

    def validate():
        weights.append(objective.linear.weight.detach().clone())
        return next(losses)

    result = train(objective, [[points(8, i)] for i in range(20)], validate=validate, validations=4)
    assert (result.val_loss, result.best_step) == (1.0, 10)
    assert torch.equal(result.best_state["linear.weight"], weights[1])
    assert torch.equal(result.last_state["linear.weight"], weights[3])
    assert [row.step for row in result.history if row.val_loss is not None] == [5, 10, 15, 20]


def test_without_validation_the_best_state_is_the_last():
    result = train(Regression(), [[points(8, i)] for i in range(3)])
    assert result.val_loss is None and result.best_step == 3
    assert result.best_state.keys() == {"linear.weight", "linear.bias"}


def test_frozen_parameters_are_in_no_state_and_do_not_move():
    objective = Regression()
    objective.linear.bias.requires_grad_(False)
    before = objective.linear.bias.clone()
    result = train(objective, [[points(8, i)] for i in range(3)], weight_decay=0.5)
    assert result.last_state.keys() == {"linear.weight"}
    assert torch.equal(objective.linear.bias, before)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run_before_the_step(bad):
    objective = Regression()
    steps = [[points(8, i)] for i in range(9)]
    steps[6] = [points(8, 6), Points(torch.ones(1, 4), torch.full((1, 2), bad))]
    best = {}

    def validate():
        best.update({name: p.detach().clone() for name, p in objective.named_parameters()})
        return 1.0

    with pytest.raises(DivergedError, match=r"test: step 7, learning rate 0\.0\d+: loss (nan|inf)") as caught:
        train(objective, steps, validate=validate, validations=3)
    assert isinstance(caught.value, TrainingError) and caught.value.best_step == 3
    assert torch.isfinite(objective.linear.weight).all()
    assert caught.value.best_state["linear.weight"].isfinite().all()


def test_a_gradient_that_is_not_finite_stops_the_run():
    class Root(Regression):
        def forward(self, batch):
            return (self.linear.weight.sum() * 0).sqrt() + super().forward(batch)

    with pytest.raises(TrainingError, match=r"step 1, .*gradient norm nan"):
        train(Root(), [[points(4, 0)]])


def test_a_validation_loss_that_is_not_finite_stops_the_run():
    with pytest.raises(TrainingError, match=r"step 2, .*validation loss nan"):
        train(Regression(), [[points(4, i)] for i in range(4)], validate=lambda: float("nan"))


def test_a_step_without_a_term_stops_the_run():
    with pytest.raises(TrainingError, match="step 1"):
        train(Regression(), [[points(0, 0)]])


@pytest.mark.parametrize("way", ["FSDP", "DEEPSPEED", "PARALLELISM_CONFIG"])
def test_accelerate_s_own_ways_of_sharing_a_model_are_refused_in_one_line(monkeypatch, way):
    monkeypatch.setenv(f"ACCELERATE_USE_{way}", "true")
    with pytest.raises(UserError, match=rf"ACCELERATE_USE_{way} is set, .*runtime\.sharding"):
        train(Regression(), [[points(4, 0)]])


def test_gpus_that_accelerate_cannot_let_reach_each_other_are_one_line(monkeypatch):
    def refuse(**options):
        raise NotImplementedError("Using RTX 4000 series\nsets NCCL_P2P_DISABLE")

    monkeypatch.setattr("accelerate.Accelerator", refuse)
    with pytest.raises(UserError, match="RTX 4000 series sets NCCL_P2P_DISABLE"):
        train(Regression(), [[points(4, 0)]])


def test_data_that_ends_early_is_an_error():
    with pytest.raises(ValueError, match="data for 2 of 5 steps"):
        train(Regression(), [[points(4, 0)], [points(4, 1)]], total=5)


def test_gradients_are_clipped_and_their_norm_is_logged_as_it_was_before():
    class Louder(Regression):
        """The second step's loss, and so its gradient, is a thousand times as large."""

        calls = 0

        def forward(self, batch):
            self.calls += 1
            return super().forward(batch) * (1000 if self.calls == 2 else 1)

    plain, louder = Regression(), Louder()
    results = [
        train(each, [[points(8, i)] for i in range(3)], max_grad_norm=1e-3, log_steps=1)
        for each in (plain, louder)
    ]
    torch.testing.assert_close(plain.linear.weight, louder.linear.weight, rtol=1e-5, atol=1e-6)
    norms = [result.history[1].grad_norm for result in results]
    assert norms[0] > 1 and norms[1] == pytest.approx(1000 * norms[0], rel=1e-4)


def test_every_row_of_the_history_is_logged():
    logged = []
    result = train(
        Regression(),
        [[points(4, i)] for i in range(12)],
        on_log=lambda step, metrics: logged.append((step, metrics)),
        validate=lambda: 1.0,
        validations=3,
        price_per_hour=3600.0,
    )
    assert [step for step, _ in logged] == [row.step for row in result.history] == [1, 4, 5, 8, 10, 12]
    assert {"loss", "learning_rate", "grad_norm", "samples_per_second", "money", "val_loss"} <= logged[-1][
        1
    ].keys()
    assert logged[-1][1]["money"] == pytest.approx(logged[-1][1]["seconds"])
    assert "val_loss" not in logged[0][1]


def test_a_row_s_loss_is_the_mean_since_the_row_before():
    result = train(Regression(), [[points(4, i)] for i in range(4)], log_steps=1, learning_rate=1e-12)
    every = [row.loss for row in result.history]
    coarse = train(Regression(), [[points(4, i)] for i in range(4)], log_steps=4, learning_rate=1e-12)
    assert coarse.history[-1].loss == pytest.approx(sum(every[1:]) / 3, rel=1e-5)
    assert coarse.train_loss == pytest.approx(every[-1], rel=1e-5)  # a tenth of 4 steps is the last one


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_training_and_validation_compute_in_the_precision_asked_for(precision, dtype):
    objective = Regression()
    seen = []

    def validate():
        loss = mean_loss(objective, [points(4, 9)])
        seen.append(objective.seen_dtype)
        return loss

    result = train(objective, [[points(4, 0)]], precision=precision, validate=validate, validations=1)
    assert seen == [dtype] and result.precision == precision
    assert objective.linear.weight.dtype == torch.float32
    mean_loss(objective, [points(4, 9)])
    assert objective.seen_dtype == torch.float32  # nothing of the training's precision stays behind


def test_the_mean_loss_weighs_every_term_the_same():
    objective = Regression()
    whole = points(10, 1)
    parts = [Points(whole.x[:1], whole.y[:1]), Points(whole.x[1:], whole.y[1:])]
    assert mean_loss(objective, parts) == pytest.approx(mean_loss(objective, [whole]), rel=1e-6)
    assert objective.training
    with pytest.raises(ValueError, match="nothing to validate on"):
        mean_loss(objective, [])

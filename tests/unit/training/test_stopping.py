"""Signals ask a training to stop: it ends after the step, or within a validation, and goes on as it was."""

import os
import signal

import pytest
import torch

from minivlm.errors import StoppedError
from minivlm.training.mean_loss import mean_loss
from minivlm.training.stopping import StopAsked, StopSignals
from tests.unit.training.test_loop import Regression, points
from tests.unit.training.test_resume import STEPS, run


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_wish_and_afterwards_what_it_was(number):
    before = signal.getsignal(number)
    with StopSignals() as stop:
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_does_not_wait():
    with StopSignals(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)  # of a launcher, beside it
        os.kill(os.getpid(), signal.SIGINT)


def after(step):
    """A wish to stop that comes while step `step` is computed."""
    asked = []

    def stop():
        asked.append(None)
        return len(asked) > step

    return stop


@pytest.mark.parametrize("step", [1, 4, 7, 8, 12])  # 4, 8 and 12, the last one, are validated
def test_it_stops_after_the_step_and_goes_on_bit_by_bit(step):
    whole, expected = run()
    saved = []
    with pytest.raises(StoppedError, match=f"after step {step} of 12"):
        run(on_save=saved.append, stop=after(step))
    [state] = saved
    assert state.result.steps == step
    losses = iter([3.0, 1.0, 2.0][step // 4 :])
    resumed, result = run(STEPS[step:], seed=8, resume=state, validate=lambda: next(losses))
    assert result.history == expected.history
    assert (result.val_loss, result.best_step) == (expected.val_loss, expected.best_step)
    for name, parameter in whole.named_parameters():
        assert torch.equal(parameter, resumed.get_parameter(name))
        assert torch.equal(expected.best_state[name], result.best_state[name])


def test_before_the_first_step_there_is_nothing_to_save():
    saved = []
    with pytest.raises(StoppedError, match="after step 0 of 12"):
        run(on_save=saved.append, stop=lambda: True)
    assert saved == []


@pytest.mark.parametrize("step", [8, 12])
def test_a_validation_that_was_left_is_made_up_for(step):
    whole, expected = run()
    saved, losses = [], iter([3.0, 1.0, 2.0])

    def validate():
        loss = next(losses)
        if loss == [3.0, 1.0, 2.0][step // 4 - 1]:
            raise StopAsked
        return loss

    with pytest.raises(StoppedError, match=f"after step {step} "):
        run(on_save=saved.append, validate=validate)
    [state] = saved
    assert state.result.steps == step and state.result.history[-1].step < step
    left = iter([3.0, 1.0, 2.0][step // 4 - 1 :])
    resumed, result = run(
        STEPS[step:], seed=8, resume=state, validate=lambda: next(left), save_every=3600.0, on_save=saved.append
    )
    # At the end, of a validation too that was all that had been left.
    assert saved[-1] is not state and saved[-1].result.history == expected.history
    assert result.history == expected.history
    for name, parameter in whole.named_parameters():
        assert torch.equal(parameter, resumed.get_parameter(name))
        assert torch.equal(expected.best_state[name], result.best_state[name])


def test_a_validation_is_left_between_two_batches():
    seen = []

    def batches():
        for i in range(5):
            seen.append(i)
            yield points(3, i)

    objective = Regression().train()
    with pytest.raises(StopAsked):
        mean_loss(objective, batches(), stop=lambda: len(seen) == 3)
    assert seen == [0, 1, 2] and objective.training

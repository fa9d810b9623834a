"""A run that cannot start, or would stop at a long row, is told before the rows are there."""

import pytest

from minivlm.errors import UserError
from minivlm.planning import plan_with
from minivlm.planning.assumptions import Asked
from minivlm.planning.estimate import estimate
from tests.unit.planning.toys import STAGES


def budget(params, stage, batch_tokens):
    section = getattr(params, stage).model_copy(update={"batch_tokens": batch_tokens})
    return params.model_copy(update={stage: section})


@pytest.mark.parametrize("stage", STAGES)
def test_a_budget_that_no_picture_fits_into_ends_plan_and_estimate(with_profile, stage):
    params, present = with_profile("4090")
    few, said = (
        budget(params, stage, 197),
        rf"{stage}\.batch_tokens 197 leaves no room beside a picture's 196 tokens",
    )
    with pytest.raises(UserError, match=said):
        plan_with(stage, few, present)
    with pytest.raises(UserError, match=said):
        estimate(few, present, Asked(stages=(stage,), paper=True))
    assert "note" in plan_with(stage, budget(params, stage, 198), present)


def test_a_budget_below_the_longest_row_is_said_to_stop_the_stage(with_profile):
    params, present = with_profile("4090")
    asked = Asked(stages=("sft",), paper=True)
    for enough in (params, budget(params, "sft", 1536)):
        assert "note" not in plan_with("sft", enough, present)
        assert "note" not in estimate(enough, present, asked)["stages"]["sft"]
    few = budget(params, "sft", 1024)
    found = estimate(few, present, asked)["stages"]["sft"]
    assert found["note"] == plan_with("sft", few, present)["note"]
    assert found["note"].endswith("of more than sft.batch_tokens 1,024 stops the stage")
    assert "tokenize.max_length 1,536" in found["note"]


def test_lengths_that_are_stated_have_to_fit_into_a_batch(with_profile):
    params, present = with_profile("4090")
    asked = Asked(stages=("sft",), tokens={"sft": 1200.0}, paper=True)
    assert estimate(params, present, asked)["stages"]["sft"]["tokens_per_row"] == 1200
    with pytest.raises(UserError, match=r"--tokens sft=1200: .* and at most sft\.batch_tokens 1024"):
        estimate(budget(params, "sft", 1024), present, asked)

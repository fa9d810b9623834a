"""The lines that a training ends with when it cannot go on, and what they advise."""

import re

import pytest
import torch

from minivlm.config import load_params
from minivlm.config.combinations import impossible
from minivlm.errors import TrainingError
from minivlm.paths import project_root
from minivlm.training.mishaps import kept_when_diverged, memory_advice, smaller_batch, smaller_batches
from minivlm.training.result import DivergedError


@pytest.mark.parametrize("batch_tokens", [1537, 1600, 3071, 3072, 4096])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_the_advice_is_a_parameter_that_the_next_command_takes(batch_tokens, accumulation):
    """The longest row allowed has to fit: profile 4090 has 1600 tokens and rows of 1536."""
    advice = smaller_batches("sft", batch_tokens, accumulation, 1536)
    found = re.fullmatch(
        r"set sft\.batch_tokens to (\d+) \(it is \d+\) and sft\.accumulation to (\d+): .*as much", advice
    )
    tokens, steps = int(found[1]), int(found[2])
    assert 1536 <= tokens < batch_tokens
    assert batch_tokens * accumulation <= tokens * steps < batch_tokens * accumulation + tokens
    params = load_params(project_root() / "params.yaml")
    sft = params.sft.model_copy(update={"batch_tokens": tokens, "accumulation": steps})
    tokenize = params.tokenize.model_copy(update={"max_length": 1536})
    faults = impossible(params.model_copy(update={"sft": sft, "tokenize": tokenize}))
    assert not [fault for fault in faults if fault.startswith("sft.")]


def test_a_batch_of_one_row_cannot_be_less():
    assert smaller_batches("sft", 1536, 2, 1536).startswith(
        "sft.batch_tokens 1536 can be no less beside tokenize.max_length 1536: lower that"
    )


@pytest.mark.parametrize(
    ("now", "least", "advice"),
    [(512, 1, "to 256 (it is 512)"), (512, 400, "to 400 (it is 512)"), (400, 400, "no"), (1, 1, "no")],
)
def test_of_a_batch_half_is_advised_and_not_less_than_there_may_be(now, least, advice):
    found = smaller_batch("base.llm.batch_tokens", now, least, "no")
    assert found == (f"set base.llm.batch_tokens {advice}" if advice != "no" else "no")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_every_way_to_have_no_memory_is_one_line(error):
    message = r"^base: out of memory on this machine; buy some$"
    with pytest.raises(TrainingError, match=message), memory_advice("base", "cpu", "buy some"):
        raise error


def test_of_many_rows_the_first_are_named_and_the_others_counted():
    with (
        pytest.raises(TrainingError, match=r"rows of the step: 7:1, .*, 7:20 and 1,003 more$"),
        kept_when_diverged(None, lambda step: [f"{step}:{row}" for row in range(1, 1024)]),
    ):
        raise DivergedError("loss nan", 7, 3, {"weight": torch.ones(2)})


def test_of_a_validation_no_row_is_named(tmp_path):
    with (
        pytest.raises(TrainingError, match=r"^validation loss nan; the weights that validated best, after step 3"),
        kept_when_diverged(tmp_path, lambda step: ["7"]),
    ):
        raise DivergedError("validation loss nan", None, 3, {"weight": torch.ones(2)})


def test_of_several_processes_the_first_one_names_the_rows(tmp_path):
    with (
        pytest.raises(DivergedError, match=r"^loss nan$"),
        kept_when_diverged(tmp_path, lambda step: ["7"], is_main=False),
    ):
        raise DivergedError("loss nan", 7, 3, {"weight": torch.ones(2)})
    assert not list(tmp_path.iterdir())

"""What ends the base's trainings early: the rows at fault, what to lower, and what is kept."""

import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from minivlm.data.pictures import decode
from minivlm.errors import TrainingError
from minivlm.training import loop
from minivlm.training.base import train_base
from minivlm.training.base_llm import TaskRow, train_llm
from minivlm.training.keeping import Keep
from tests.unit.training.test_base import SECTION, SHARED, rows
from tests.unit.training.test_mixture import BUDGET, texts
from tests.unit.training.test_text_loss import IMAGE, OPTIMIZATION, PAD, SHAPE, SPECIAL


@pytest.fixture
def diverging(monkeypatch):
    """Trainings whose loss is not finite in a step, 4 unless said otherwise; the batches of their steps."""
    gradients, seen = loop._gradients, []

    def at(step):
        def once_not_finite(module, trained, batches, *others):
            seen.append(batches[0])
            nats, norm = gradients(module, trained, batches, *others)
            return (float("nan") if len(seen) == step else nats), norm

        monkeypatch.setattr(loop, "_gradients", once_not_finite)
        return seen

    return at


def named(error, until="$"):
    """The names that a line gives of the rows of a step."""
    return re.search(rf"rows of the step: (.*?){until}", str(error))[1].split(", ")


def test_a_tower_that_diverges_names_its_rows_and_keeps_its_best_weights(tmp_path, diverging):
    seen = diverging(6)
    tower = SECTION.vision_tower.model_copy(update={"epochs": 4})
    section = SECTION.model_copy(update={"vision_tower": tower})
    shared = SHARED | {"validations": 3, "on_log": lambda step, metrics, time: None}
    keep = Keep(tmp_path / "state", 60.0)
    with pytest.raises(TrainingError, match=r"^base: vision tower: step 6, learning rate") as caught:
        train_base(rows(), tmp_path / "base", section, seed=0, shared=shared, keep=keep)
    best = tmp_path / "state" / "vision_tower" / "best.safetensors"
    assert str(caught.value).endswith(f", are in {best}")
    assert all(torch.isfinite(tensor).all() for tensor in load_file(best).values())
    of_row = {row.id: row.pictures[0] for row in rows()["pretrain"]}
    pictures = [decode(of_row[name], 16) for name in named(caught.value, ";")]
    assert len(pictures) == 8 and np.array_equal(np.stack(pictures), seen[-1].pixels.numpy())


def test_a_language_model_that_diverges_names_its_rows_and_texts(tmp_path, diverging):
    kinds = set()
    for step in range(1, 7):
        seen = diverging(step)
        seen.clear()
        alone = [np.array([1, 4, 5, 6 + i, 7 + i, 8 + i, 2]) for i in range(20)]
        packed = texts()
        with pytest.raises(TrainingError, match=f"base: language model: step {step}, ") as caught:
            train_llm(
                [TaskRow(ids, np.arange(7) > 2, [], f"sft:{100 + i}") for i, ids in enumerate(alone)],
                np.zeros(20, bool), tmp_path, shape=SHAPE, special_ids=SPECIAL, image_token_id=IMAGE,
                header_ids=(), batch_tokens=BUDGET, epochs=2, seed=0, texts=packed, **OPTIMIZATION,
            )  # fmt: skip
        names, batch = named(caught.value), seen[-1].input_ids.tolist()
        kind, numbers = names[0].partition(":")[0], [int(name.partition(":")[2]) for name in names]
        kinds.add(kind)
        if kind == "sft":
            assert [ids[:7] for ids in batch] == [alone[number - 100].tolist() for number in numbers]
            continue
        # Rows of packed texts are cut anywhere: their tokens are those of the documents, in that order.
        store, line = packed.store, [token for ids in batch for token in ids if token != PAD]
        whole = [store.tokens[store.offsets[n] : store.offsets[n + 1]].tolist() for n in dict.fromkeys(numbers)]
        joined = [token for document in whole for token in document]
        assert "," + ",".join(map(str, line)) + "," in "," + ",".join(map(str, joined)) + ","
        assert len(joined) - len(line) < len(whole[0]) + len(whole[-1])  # none of them is beside the row
    assert kinds == {"sft", "texts"}


def refuse_memory(*arguments):
    raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")


def test_too_little_memory_for_the_tower_names_what_to_lower(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_gradients", refuse_memory)
    advice = r"out of memory on this machine; set base\.vision_tower\.batch_size to 4 \(it is 8\)$"
    with pytest.raises(TrainingError, match=advice):
        train_base(rows(), tmp_path / "base", SECTION, seed=0, shared=SHARED)


@pytest.mark.parametrize(
    ("batch_tokens", "advice"), [(512, r"batch_tokens to 256 \(it is 512\)"), (128, "make base.llm smaller")]
)
def test_too_little_memory_for_the_language_model_names_what_to_lower(tmp_path, monkeypatch, batch_tokens, advice):
    """A batch may not be less than the longest row: 128."""
    section = SECTION.model_copy(
        update={
            "llm": SECTION.llm.model_copy(update={"batch_tokens": batch_tokens}),
            "vision_tower": SECTION.vision_tower.model_copy(update={"source": "random"}),
        }
    )
    monkeypatch.setattr(loop, "_gradients", refuse_memory)
    with pytest.raises(TrainingError, match=rf"base: language model: out of memory on this machine; .*{advice}"):
        train_base(rows(), tmp_path / "base", section, seed=0, shared=SHARED)

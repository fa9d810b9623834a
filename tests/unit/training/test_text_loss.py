"""The base language model's objective and its training."""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from minivlm.data.text_tasks import WIDEST_SLOT, Exchanges, collate_tasks
from minivlm.model.checkpoint import load_strictly
from minivlm.training.base_llm import TaskRow, train_llm
from minivlm.training.text_loss import TextTaskLoss
from tests.unit.data.toys import tree

PAD, START, END, IMAGE = 0, 1, 2, 3
SPECIAL = {"pad_token_id": PAD, "bos_token_id": START, "eos_token_id": END}
SHAPE = dict(
    vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    intermediate_size=48, max_position_embeddings=64, rope_theta=1e4,
)  # fmt: skip
OPTIMIZATION = dict(
    learning_rate=1e-2, min_learning_rate_ratio=0.1, warmup_ratio=0.1, weight_decay=0.01, max_grad_norm=1.0,
    precision="fp32", device="cpu", validations=1, log_steps=1, on_log=lambda step, metrics: None,
    price_per_hour=None,
)  # fmt: skip


EXCHANGES = Exchanges(np.random.default_rng(0).integers(6, 36, (50, 4)))


def llm():
    torch.manual_seed(0)
    config = LlamaConfig(**SHAPE, **SPECIAL, tie_word_embeddings=True, initializer_range=0.3)
    return LlamaForCausalLM(config).eval()


def row(i, picture=True):
    """Question, then an answer of four words that only the picture tells (of a row without one, of i itself)."""
    words = 6 + np.random.default_rng(i).integers(0, 30, 4)
    ids = np.array([START, 4, *([IMAGE] if picture else []), 5, *words, END], dtype=np.int64)
    return TaskRow(ids, np.arange(len(ids)) >= len(ids) - 5, [words])


def tasks(number=6):
    random = np.random.default_rng(0)
    return [row(i, picture=i % 3 != 1).task(IMAGE, EXCHANGES, random) for i in range(number)]


def nats_of_rows(model, some):
    """transformers' own loss, of one row at a time, on embeddings put together token by token."""
    embed, total = model.get_input_embeddings(), 0.0
    for task in some:
        slots, vectors = iter(task.slots), []
        for token in task.ids.tolist():
            if token == IMAGE:
                chosen = torch.tensor([each for each in next(slots).tolist() if each >= 0])
                vectors.append(embed(chosen).sum(0) / len(chosen) ** 0.5)
            else:
                vectors.append(embed(torch.tensor(token)))
        labels = torch.from_numpy(np.where(task.mask, task.ids, -100))[None]
        loss = model(inputs_embeds=torch.stack(vectors)[None], labels=labels).loss
        total += loss.item() * np.count_nonzero(task.mask[1:])
    return total


@torch.no_grad()
def test_the_loss_is_that_of_transformers_row_by_row():
    model, some = llm(), tasks()
    expected = nats_of_rows(model, some)
    got = TextTaskLoss(model, IMAGE)(collate_tasks(some, PAD)).item()
    assert got == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_rows_without_a_picture_need_no_sketch():
    model, some = llm(), [row(i, picture=False).task(IMAGE, EXCHANGES, np.random.default_rng(0)) for i in range(3)]
    got = TextTaskLoss(model, IMAGE)(collate_tasks(some, PAD)).item()
    assert got == pytest.approx(nats_of_rows(model, some), rel=1e-5)


@torch.no_grad()
def test_the_loss_depends_on_what_the_sketch_says():
    objective, [task] = TextTaskLoss(llm(), IMAGE), tasks(1)
    batch = collate_tasks([task], PAD)
    before = objective(batch).item()
    batch.slots[0, 0] += 1
    assert objective(batch).item() != pytest.approx(before, abs=1e-3)


def test_a_row_without_a_picture_stays_as_it_is():
    plain = row(0, picture=False)
    task = plain.task(IMAGE, EXCHANGES, np.random.default_rng(0))
    assert task.ids is plain.ids
    assert task.mask is plain.mask
    assert task.slots.shape == (0, WIDEST_SLOT)


def test_a_row_gets_a_new_sketch_every_time():
    random, long = np.random.default_rng(0), row(0)
    long.sources = [np.arange(6, 36)]
    first, second = (long.task(IMAGE, EXCHANGES, random).slots for _ in range(2))
    assert not np.array_equal(first, second)


def trained(directory, seed=0):
    torch.manual_seed(seed)
    rows = [row(i, picture=i % 10 != 9) for i in range(160)]
    result, losses = train_llm(
        rows, np.arange(160) >= 140, directory, shape=SHAPE, special_ids=SPECIAL, image_token_id=IMAGE,
        header_ids=(), batch_tokens=256, epochs=12, seed=seed, **OPTIMIZATION,
    )  # fmt: skip
    assert losses == {"task": result.val_loss}
    return result


def test_a_language_model_learns_to_read_the_sketch_and_transformers_loads_it(tmp_path):
    result = trained(tmp_path / "one")
    assert result.train_loss < 0.8 * result.history[0].loss
    assert result.val_loss < 0.9 * result.history[0].loss  # rows it has not seen: the sketch alone tells
    model = load_strictly(LlamaForCausalLM, tmp_path / "one")
    for name, weight in model.named_parameters():
        assert torch.equal(weight, result.best_state[f"llm.{name}"]), name
    config = model.config
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (PAD, START, END)
    assert config.tie_word_embeddings
    assert "minivlm" not in (tmp_path / "one" / "config.json").read_text(encoding="utf-8")


def test_the_same_seed_gives_the_same_language_model(tmp_path):
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        trained(tmp_path / name, seed)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert tree(tmp_path / "one") != tree(tmp_path / "other")

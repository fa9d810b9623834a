"""The embedded language model: a small Llama trained from random weights on text tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.data.text_tasks import Exchanges, TextTask, TextTaskBatch, collate_tasks, exchange_words, make_task
from minivlm.training.result import FitResult

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class TaskRow:
    """A conversation's tokens, with what is said about its picture; a new sketch for every epoch."""

    def __init__(
        self, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.bool_], sources: Sequence[npt.NDArray[np.int64]]
    ) -> None:
        self.ids, self.mask, self.sources = ids, mask, sources

    def task(self, image_token_id: int, exchanges: Exchanges, random: np.random.Generator) -> TextTask:
        """The row with a sketch for its picture, some of its words exchanged; without a picture, as it is."""
        import numpy as np

        from minivlm.data.text_tasks import WIDEST_SLOT

        if image_token_id not in self.ids:
            return TextTask(self.ids, self.mask, np.empty((0, WIDEST_SLOT), dtype=np.int64))
        task = make_task(self.ids, self.mask, self.sources, image_token_id, random)
        return exchange_words(task, exchanges, random)


def train_llm(
    rows: Sequence[TaskRow],
    validation: npt.NDArray[np.bool_],
    directory: Path,
    *,
    shape: Mapping[str, Any],
    special_ids: Mapping[str, int],
    image_token_id: int,
    header_ids: Sequence[int],
    batch_tokens: int,
    epochs: float,
    seed: int,
    **optimization: Any,
) -> FitResult:
    """Train, and write a LlamaForCausalLM directory.

    `shape`: LlamaConfig's sizes; `special_ids`: pad, bos and eos token ids by LlamaConfig's names; `header_ids`:
    tokens of the roles' names, which are no words to exchange; `optimization` goes to `fit` as it is.
    """
    import numpy as np
    from transformers import LlamaConfig, LlamaForCausalLM

    from minivlm.model.attention import use_matmul_attention
    from minivlm.model.checkpoint import quiet
    from minivlm.training.loop import fit, mean_loss
    from minivlm.training.muon import MuonWithAdamW
    from minivlm.training.optimizer import restore_state
    from minivlm.training.text_loss import TextTaskLoss

    llm = LlamaForCausalLM(LlamaConfig(**shape, **special_ids, tie_word_embeddings=True))
    use_matmul_attention(llm)
    objective = TextTaskLoss(llm, image_token_id)
    train, held = np.flatnonzero(~validation), np.flatnonzero(validation)

    exchanges = Exchanges((text for row in rows for text in row.sources), header_ids)

    def batches(chosen: npt.NDArray[np.int64], epoch: int) -> list[TextTaskBatch]:
        random = np.random.default_rng((seed, epoch))
        return _batches(
            [rows[i].task(image_token_id, exchanges, random) for i in chosen],
            batch_tokens,
            seed,
            epoch,
            special_ids["pad_token_id"],
        )

    # Of a part of an epoch only that part's rows are prepared.
    part = np.random.default_rng(seed).permutation(train)[: max(1, round(epochs * len(train)))]
    first = batches(part, 0)
    total = max(1, int(max(1.0, epochs) * len(first)))
    checks = batches(held, 1 << 20) if len(held) else []

    def steps() -> Iterator[list[TextTaskBatch]]:
        epoch, current = 0, first
        while True:
            for batch in current:
                yield [batch]
            epoch += 1
            current = batches(train, epoch)

    result = fit(
        objective,
        steps(),
        total_steps=total,
        validate=(lambda: mean_loss(objective, checks)) if checks else None,
        optimizer=MuonWithAdamW,
        label="base: language model",
        **optimization,
    )
    objective.to("cpu")
    restore_state(objective, result.best_state)
    with quiet():
        llm.save_pretrained(directory)
    return result


def _batches(
    tasks: Sequence[TextTask], batch_tokens: int, seed: int, epoch: int, pad_token_id: int
) -> list[TextTaskBatch]:
    import numpy as np

    from minivlm.data.batches import plan_batches

    plan = plan_batches(np.array([len(task.ids) for task in tasks]), batch_tokens, seed, epoch)
    return [collate_tasks([tasks[i] for i in chosen], pad_token_id) for chosen in plan]

"""The base language model: a Llama of any size, trained from nothing on text tasks, on texts, or on both."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.data.text_tasks import Exchanges, TextTask, TextTaskBatch, collate_tasks, exchange_words, make_task
from minivlm.errors import UserError
from minivlm.training.keeping import Keep, kept, steps_done
from minivlm.training.mishaps import kept_when_diverged, memory_advice, smaller_batch
from minivlm.training.mixture import Epoch, PackedTexts, TextBatches
from minivlm.training.result import FitResult

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from minivlm.training.operations import TextCounter

Kind = TextBatches | list[TextTaskBatch]


class TaskRow:
    """A conversation's tokens, with what is said about its picture; a new sketch for every epoch."""

    def __init__(
        self,
        ids: npt.NDArray[np.int64],
        mask: npt.NDArray[np.bool_],
        sources: Sequence[npt.NDArray[np.int64]],
        name: str = "",
    ) -> None:
        """`name`: the row's id."""
        self.ids, self.mask, self.sources, self.name = ids, mask, sources, name

    def task(self, image_token_id: int, exchanges: Exchanges, random: np.random.Generator) -> TextTask:
        """The row with a sketch for its picture, some of its words exchanged; without a picture, as it is."""
        import numpy as np

        from minivlm.data.text_tasks import WIDEST_SLOT

        if image_token_id not in self.ids:
            return TextTask(self.ids, self.mask, np.empty((0, WIDEST_SLOT), dtype=np.int64), (self.name,))
        task = make_task(self.ids, self.mask, self.sources, image_token_id, random)
        return replace(exchange_words(task, exchanges, random), names=(self.name,))


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
    texts: PackedTexts | None = None,
    keep: Keep | None = None,
    **optimization: Any,
) -> tuple[FitResult, dict[str, float]]:
    """Train, and write a LlamaForCausalLM directory; with the validation loss of each kind, `task` and `text`.

    `rows` (may be empty) become text tasks, `validation` (rows,) says which are not trained on; `texts` brings its
    own. The weights kept are those of the lowest validation loss, a mean over all supervised tokens of both kinds.
    `shape`: LlamaConfig's sizes; `special_ids`: pad, bos and eos token ids by LlamaConfig's names; `header_ids`:
    tokens of the roles' names, which are no words to exchange; `keep`: where states are kept that it goes on from;
    `optimization` goes to `fit` as it is. UserError when there is nothing to train on; TrainingError
    when memory does not suffice, or a loss is not finite, with the best weights until then kept beside the states.
    """
    import numpy as np
    import torch

    from minivlm.model.attention import use_matmul_attention
    from minivlm.model.checkpoint import quiet
    from minivlm.model.norms import use_fused_norms
    from minivlm.training.cost import muon_flops
    from minivlm.training.loop import fit
    from minivlm.training.muon import MuonWithAdamW, hidden_matrices
    from minivlm.training.operations import TextCounter
    from minivlm.training.optimizer import restore_state
    from minivlm.training.text_loss import TextTaskLoss

    llm = _llama(shape, special_ids)
    use_matmul_attention(llm)
    use_fused_norms(llm)
    objective = TextTaskLoss(llm, image_token_id)
    train, held = np.flatnonzero(~validation), np.flatnonzero(validation)
    budget: dict[str, Any] = {"batch_tokens": batch_tokens, "pad_token_id": special_ids["pad_token_id"]}

    exchanges = Exchanges((text for row in rows for text in row.sources), header_ids)

    def tasks(chosen: npt.NDArray[np.int64], epoch: int) -> list[TextTaskBatch]:
        random = np.random.default_rng((seed, epoch))
        made = [rows[i].task(image_token_id, exchanges, random) for i in chosen]
        return _batches(made, seed=seed, epoch=epoch, **budget)

    def epoch_of(chosen: npt.NDArray[np.int64], epoch: int, share: float = 1.0) -> Epoch:
        packed = texts and TextBatches.of_epoch(texts, epoch, seed=seed, share=share, **budget)
        return Epoch(tasks(chosen, epoch), packed)

    # Of a part of an epoch only that part's rows are prepared.
    part = np.random.default_rng(seed).permutation(train)[: max(1, round(epochs * len(train)))]
    first = epoch_of(part, 0, min(1.0, epochs))
    if not len(first):
        raise UserError("base: no row and no text is left that the language model could learn from")
    checks: dict[str, Kind] = {}
    if len(held):
        checks["task"] = tasks(held, 1 << 20)
    if texts and texts.store.validation.any():
        checks["text"] = TextBatches.held_back(texts, **budget)
    counter = TextCounter(llm.config, muon_flops(tuple(p.shape) for p in hidden_matrices(objective)))

    taken: list[TextTaskBatch] = []  # of the step that is being taken

    def steps() -> Iterator[list[TextTaskBatch]]:
        epoch, current = 0, first
        while True:
            for batch in current:
                taken[:] = [batch]
                yield [batch]
            epoch += 1
            current = epoch_of(train, epoch)

    places, smaller = shape["max_position_embeddings"], "make base.llm smaller (layers, hidden_size)"
    advice = smaller_batch("base.llm.batch_tokens", batch_tokens, places, smaller)
    with (
        memory_advice("base: language model", optimization["device"], advice),
        kept_when_diverged(keep.folder if keep else None, lambda step: taken[0].names),
        kept(keep, counter) as keeping,
    ):
        validated = _Validation(objective, checks, counter, keeping["stop"])
        result = fit(
            objective,
            counter.watch(islice(steps(), steps_done(keeping), None)),
            total_steps=max(1, int(max(1.0, epochs) * len(first))),
            validate=validated if checks else None,
            optimizer=MuonWithAdamW,
            label="base: language model",
            **keeping,
            **optimization,
        )
    restore_state(objective, result.best_state)
    if checks and not validated.best:  # it was stopped after its last validation, which only the state knows of
        with torch.autocast(result.device.partition(":")[0], torch.bfloat16, enabled=result.precision == "bf16"):
            validated()
    objective.to("cpu")
    with quiet():
        llm.save_pretrained(directory)
    return counter.note(result), validated.best


def random_llm(directory: Path, *, shape: Mapping[str, Any], special_ids: Mapping[str, int]) -> None:
    """Write a LlamaForCausalLM directory with the weights that torch's generator draws."""
    from minivlm.model.checkpoint import quiet

    with quiet():
        _llama(shape, special_ids).save_pretrained(directory)


def _llama(shape: Mapping[str, Any], special_ids: Mapping[str, int]) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**shape, **special_ids, tie_word_embeddings=True))


class _Validation:
    """The validation loss over all kinds of batches; `best` holds that of each kind when the whole was lowest."""

    def __init__(
        self, objective: Any, checks: Mapping[str, Kind], counter: TextCounter, stop: Callable[[], bool]
    ) -> None:
        self._objective, self._checks, self._counter, self._stop = objective, checks, counter, stop
        self._lowest = math.inf
        self.best: dict[str, float] = {}

    def __call__(self) -> float:
        from minivlm.training.mean_loss import mean_loss

        watch = self._counter.watch_validation
        losses = {
            kind: mean_loss(self._objective, watch(batches), stop=self._stop)
            for kind, batches in self._checks.items()
        }
        if len(losses) == 1:
            [whole] = losses.values()
        else:
            counts = {kind: sum(batch.count for batch in batches) for kind, batches in self._checks.items()}
            whole = sum(losses[kind] * counts[kind] for kind in losses) / sum(counts.values())
        if whole < self._lowest:
            self._lowest, self.best = whole, losses
        return whole


def _batches(
    tasks: Sequence[TextTask], *, batch_tokens: int, pad_token_id: int, seed: int, epoch: int
) -> list[TextTaskBatch]:
    import numpy as np

    from minivlm.data.batch_plan import plan_batches

    plan = plan_batches(np.array([len(task.ids) for task in tasks]), batch_tokens, seed, epoch)
    return [collate_tasks([tasks[i] for i in chosen], pad_token_id, batch_tokens) for chosen in plan]

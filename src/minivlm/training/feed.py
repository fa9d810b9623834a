"""What a stage trains on: the steps of its rows, this process's share of each, and the rows for validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.data.batch_plan import plan_batches
from minivlm.training.device import loader_workers
from minivlm.training.steps import plan_steps, regroup

if TYPE_CHECKING:
    from minivlm.data.batches import Batches
    from minivlm.data.features import FeatureStore
    from minivlm.data.pictures import Preparation
    from minivlm.data.store import PictureStore, TokenStore
    from minivlm.training.distributed import Processes

    Loader = Callable[[Any, float], Batches]


def made_batches(
    plan: Any,
    store: TokenStore,
    pictures: PictureStore,
    preparation: Preparation,
    *,
    image_token_id: int,
    batch_tokens: int,
    device: str,
    workers: int,
    features: FeatureStore | None = None,
) -> Batches:
    """The batches of a plan as a training on `device` has them made, by `workers` processes.

    What probes and benchmarks time is then what a training does; for a GPU, resizing and copies are its own.
    """
    from minivlm.data.batches import Batches
    from minivlm.model.resize import resizer

    is_gpu = device.startswith("cuda")
    return Batches(
        plan,
        store,
        pictures,
        preparation=preparation,
        image_token_id=image_token_id,
        batch_tokens=batch_tokens,
        workers=workers,
        pin_memory=is_gpu,
        left_to_device=resizer(preparation) if is_gpu else None,
        features=features,
    )


def loader(
    store: TokenStore,
    pictures: PictureStore,
    tower: Path,
    processes: Processes,
    *,
    image_token_id: int,
    batch_tokens: int,
    device: str,
    threads: int,
    workers: int,
    features: FeatureStore | None,
) -> Loader:
    """What makes batches of the rows of `store`, with pictures as `tower` wants them or with its `features`.

    `workers`: processes that this machine has for it, see `loader_workers`.
    """
    from minivlm.data.pictures import Preparation

    preparation = Preparation.read(tower)
    return lambda plan, rows: made_batches(
        plan,
        store,
        pictures,
        preparation,
        image_token_id=image_token_id,
        batch_tokens=batch_tokens,
        device=device,
        workers=loader_workers(workers, threads, device, int(rows), processes.local_size),
        features=features,
    )


class Feed:
    """The rows of a token store as steps of micro-batches.

    The steps are planned from the lengths alone, before what takes hours: UserError when a row does not fit. Every
    process is fed as many micro-batches of a step as the others; those that another one counts come as `Repeat`.
    """

    def __init__(
        self,
        store: TokenStore,
        processes: Processes,
        *,
        batch_tokens: int,
        accumulation: int,
        epochs: float,
        seed: int,
    ) -> None:
        self._load: Loader | None = None
        self._processes, self._epochs = processes, epochs
        self.rows, kept = store.training_rows(), store.validation_rows()
        self.steps = plan_steps(
            self.rows,
            store.lengths[self.rows],
            batch_tokens=batch_tokens,
            accumulation=accumulation,
            epochs=epochs,
            seed=seed,
        )
        self._kept = [kept[batch] for batch in plan_batches(store.lengths[kept], batch_tokens, seed, 0)]
        self._kept_rows = len(kept)

    def read_with(self, load: Loader) -> None:
        """Have `load(plan, rows)` make the batches of a plan of about so many rows."""
        self._load = load

    @property
    def validates(self) -> bool:
        """Whether rows are kept for validation."""
        return bool(self._kept)

    def after(self, step: int) -> Iterator[list[Any]]:
        """This process's micro-batches of each step after the first `step` steps."""
        left, size = self.steps[step:], self._processes.size
        share = left.of_rank(self._processes.rank, size)
        loaded = regroup(self._loaded(share.batches, self._epochs * len(self.rows) / size), share)
        for whole, batches in zip(left, loaded, strict=True):
            yield [*self._processes.weighted(batches, len(whole))]

    def validation(self) -> Iterator[Any]:
        """This process's share of the validation batches, once."""
        batches = self._loaded(self._processes.share(self._kept), self._kept_rows / self._processes.size)
        return self._processes.weighted(batches, len(self._kept))

    def _loaded(self, plan: Any, rows: float) -> Batches:
        if self._load is None:
            raise ValueError("nothing makes the batches: read_with")
        return self._load(plan, rows)

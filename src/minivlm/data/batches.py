"""Rows -> tensors, by worker processes or here.

`B` rows of a batch, `T` tokens that they are padded to, `N` distinct pictures, `S` positions that logits are
computed at: the supervised ones, and a few more for a round number (see `minivlm.data.batch_plan`).
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from minivlm.data.batch_plan import next_tokens, padded_length, plan_batches
from minivlm.data.pictures import Preparation
from minivlm.data.pixels import PixelReader
from minivlm.data.store import PictureStore, TokenStore
from minivlm.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from minivlm.data.features import FeatureStore

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

__all__ = ["Batch", "Batches", "collate", "plan_batches"]

PREFETCHED = 4  # batches that each worker has ready
_COUNTS = ("tokens", "count")  # the fields of a batch that are no tensors


@dataclass(frozen=True)
class Batch:
    """Tensors of one batch. Padding is on the right, so causal attention needs no mask."""

    input_ids: torch.Tensor  # (B, T) int64
    pixels: torch.Tensor  # (N, 3, H, W) uint8, each distinct picture of the batch once; none with features
    picture_index: torch.Tensor  # (runs of image tokens,) int64: the picture of each run, in row-major order
    image_places: torch.Tensor  # (image tokens,) int64 into the flat (B * T): where they stand
    supervised: torch.Tensor  # (S,) int64 into the flat (B * T): positions whose next token is supervised
    targets: torch.Tensor  # (S,) int64: those next tokens; IGNORED beyond the first `count`
    tokens: int  # without padding
    count: int  # supervised tokens
    features: torch.Tensor | None = None  # (N, P, V): what the vision tower says of the pictures, where it is kept

    @property
    def pictures(self) -> int:
        """Distinct pictures, N."""
        return len(self.pixels if self.features is None else self.features)

    @property
    def samples(self) -> int:
        """Rows."""
        return int(self.input_ids.shape[0])

    @property
    def padded_tokens(self) -> int:
        """Tokens computed, padding included."""
        return int(self.input_ids.numel())

    @property
    def logit_positions(self) -> int:
        """Positions that logits are computed at, S."""
        return int(self.targets.numel())

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device; from pinned memory the copy does not block."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory; the data loader calls this."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, function: Any) -> Batch:
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in _COUNTS}
        return replace(self, **{name: function(value) for name, value in values.items() if value is not None})


def collate(
    rows: Sequence[int] | npt.NDArray[np.integer],
    tokens: TokenStore,
    pixels: PixelReader,
    image_token_id: int,
    batch_tokens: int | None = None,
    features: FeatureStore | None = None,
) -> Batch:
    """The rows (indices into the store) as one batch, their pictures as `pixels` reads them.

    `batch_tokens`: no row is padded beyond it; `features` are read instead of pictures. UserError when a picture
    cannot be decoded, or when the image tokens do not match the pictures (another model's `image_token_id`).
    """
    import numpy as np
    import torch

    rows = np.asarray(rows)
    lengths = tokens.lengths_of(rows)
    input_ids, is_supervised = tokens.padded(rows, padded_length(int(lengths.max()), batch_tokens))  # (B, T)
    supervised, targets, count = next_tokens(input_ids, is_supervised)

    wanted = tokens.pictures_of(rows)
    distinct, index = np.unique(wanted, return_inverse=True)
    places = np.flatnonzero(input_ids == image_token_id)
    if len(places) != len(wanted) * tokens.image_tokens:
        raise UserError(
            f"{tokens.directory}: {len(places)} image tokens (id {image_token_id}) for {len(wanted)} pictures of "
            f"{tokens.image_tokens}; these tokens were made for another model"
        )
    return Batch(
        input_ids=torch.from_numpy(input_ids),
        pixels=torch.from_numpy(pixels.read(distinct if features is None else distinct[:0])),
        picture_index=torch.from_numpy(index.astype(np.int64)),
        image_places=torch.from_numpy(places.astype(np.int64)),
        supervised=torch.from_numpy(supervised),
        targets=torch.from_numpy(targets),
        tokens=int(lengths.sum()),
        count=count,
        features=None if features is None else features.read(distinct),
    )


class Batches:
    """The batches of a plan, in its order, made by `workers` processes (0: by this one); same bytes."""

    def __init__(
        self,
        plan: Plan,
        tokens: TokenStore,
        pictures: PictureStore,
        *,
        preparation: Preparation,
        image_token_id: int,
        batch_tokens: int | None = None,
        workers: int = 0,
        pin_memory: bool = False,
        left_to_device: Callable[[int, int], bool] | None = None,
        features: FeatureStore | None = None,
    ) -> None:
        """`plan` holds row indices of the store for each batch; slice it to go on in the middle of an epoch.

        `batch_tokens`: no row is padded beyond it. `pin_memory`: page-locked, so that the CPU does not wait for
        copies to a GPU; there they take turns with the computation. `left_to_device`: see `PixelReader`.
        `features` are read instead of pictures.
        """
        self._plan = plan
        reader = PixelReader(pictures, preparation, left_to_device)
        self._source = _Source(tokens, reader, image_token_id, batch_tokens, features)
        self._workers, self._pin_memory = workers, pin_memory

    def __len__(self) -> int:
        return len(self._plan)

    def __iter__(self) -> Iterator[Batch]:
        return load(self._source, self._plan, self._workers, self._pin_memory)


def load(source: Source[T], plan: Plan, workers: int = 0, pin_memory: bool = False) -> Iterator[T]:
    """`source[each]` for each array of a plan, in its order, made ahead by `workers` processes."""
    import torch
    from torch.utils.data import DataLoader

    loader: DataLoader[Any] = DataLoader(
        _Careful(source),  # type: ignore[arg-type]
        batch_size=None,  # the plan has made the batches
        sampler=plan,  # its rows go to the workers batch by batch: none holds the plan
        num_workers=workers,
        prefetch_factor=PREFETCHED if workers else None,
        collate_fn=_as_it_is,
        pin_memory=pin_memory and torch.cuda.is_available(),
        # A fork would copy the locks of threads that MLflow or Arrow have running.
        multiprocessing_context="spawn" if workers else None,
        # The loader draws a seed for its workers: not from the global generator, which a resumed run restores.
        generator=torch.Generator(),
        worker_init_fn=_leave_signals_to_parent,
    )
    with loader_advice():
        for made in loader:
            if isinstance(made, UserError):
                raise made
            yield made


@contextmanager
def loader_advice() -> Iterator[None]:
    """A process of `load` that was killed is a UserError that says what to lower.

    torch raises that wherever the main thread is when the system tells of it: within `load`, and as well within
    what is done with a batch.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise UserError(
            f"a process that loads rows was killed ({' '.join(str(error).split())}); where memory is short, or "
            "/dev/shm (docker run --shm-size 8g), lower runtime.workers, and run it again"
        ) from None


def _leave_signals_to_parent(worker: int) -> None:
    """Ctrl-C and SIGTERM reach all processes of a terminal or a job: the parent finishes its step first."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


class Source(Protocol[T_co]):
    """What makes something of an array of indices; it is sent to worker processes."""

    def __getitem__(self, rows: npt.NDArray[np.integer]) -> T_co: ...


class Plan(Protocol):
    """Batches as arrays of row indices: a list, an epoch's plan, or the steps of a training."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[npt.NDArray[np.integer]]: ...


@dataclass(frozen=True)
class _Source:
    """What a worker process holds: paths, and how to make a batch of some rows."""

    tokens: TokenStore
    pixels: PixelReader
    image_token_id: int
    batch_tokens: int | None
    features: FeatureStore | None

    def __getitem__(self, rows: npt.NDArray[np.integer]) -> Batch:
        return collate(rows, self.tokens, self.pixels, self.image_token_id, self.batch_tokens, self.features)


@dataclass(frozen=True)
class _Careful(Generic[T]):
    """A source whose errors are handed on: raised in a worker, their one line would drown in a traceback."""

    source: Source[T]

    def __getitem__(self, rows: npt.NDArray[np.integer]) -> T | UserError:
        try:
            return self.source[rows]
        except UserError as error:
            return error


def _as_it_is(batch: Any) -> Any:
    return batch

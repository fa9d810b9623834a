"""Which rows form a batch, and rows -> tensors.

`B` rows of a batch, `T` tokens of its longest row, `N` distinct pictures, `S` supervised tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from minivlm.data.pictures import Preparation, decode
from minivlm.data.store import PictureStore, TokenStore
from minivlm.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

_WINDOW = 64  # batches sorted together: more waste less padding and mix the rows less


def plan_batches(
    lengths: npt.NDArray[np.integer], batch_tokens: int, seed: int, epoch: int
) -> list[npt.NDArray[np.int64]]:
    """The batches of an epoch as positions in `lengths`; every row is in exactly one.

    Rows of like length share a batch, of which (rows x longest row) is at most `batch_tokens`: windows of shuffled
    rows are sorted by length and cut, then all batches are shuffled. The same arguments give the same plan.
    UserError when a row alone is longer than the budget.
    """
    import numpy as np

    lengths = np.asarray(lengths)
    if len(lengths) == 0:
        return []
    if lengths.max() > batch_tokens:
        raise UserError(
            f"a row of {lengths.max():,} tokens does not fit into batch_tokens = {batch_tokens:,}; "
            "raise batch_tokens or lower tokenize.max_length"
        )
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(len(lengths))
    window = max(1, int(_WINDOW * batch_tokens / lengths.mean()))
    batches = []
    for start in range(0, len(order), window):
        rows = order[start : start + window]
        rows = rows[np.argsort(-lengths[rows], kind="stable")]  # the longest first: it says how many fit
        first = 0
        while first < len(rows):
            count = int(batch_tokens // max(1, lengths[rows[first]]))
            batches.append(rows[first : first + count])
            first += count
    return [batches[i] for i in random.permutation(len(batches))]


@dataclass(frozen=True)
class Batch:
    """Tensors of one batch. Padding is on the right, so causal attention needs no mask."""

    input_ids: torch.Tensor  # (B, T) int64
    pixels: torch.Tensor  # (N, 3, side, side) uint8, each distinct picture of the batch once
    picture_index: torch.Tensor  # (runs of image tokens,) int64: the picture of each run, in row-major order
    supervised: torch.Tensor  # (S,) int64 into the flat (B * T): positions whose next token is supervised
    targets: torch.Tensor  # (S,) int64: those next tokens
    tokens: int  # without padding

    @property
    def samples(self) -> int:
        """Rows."""
        return int(self.input_ids.shape[0])

    @property
    def padded_tokens(self) -> int:
        """Tokens computed, padding included."""
        return int(self.input_ids.numel())

    @property
    def count(self) -> int:
        """Supervised tokens, S."""
        return int(self.targets.numel())

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device; from pinned memory the copy does not block."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory; the data loader calls this."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, function: Any) -> Batch:
        names = [field.name for field in fields(self) if field.name != "tokens"]
        return replace(self, **{name: function(getattr(self, name)) for name in names})


def collate(
    rows: Sequence[int] | npt.NDArray[np.integer],
    tokens: TokenStore,
    pictures: PictureStore,
    preparation: Preparation,
    image_token_id: int,
) -> Batch:
    """The rows (indices into the store) as one batch; pictures are decoded as the vision tower wants them.

    UserError when a picture cannot be decoded, or when the image tokens do not match the pictures (another model's
    `image_token_id`).
    """
    import numpy as np
    import torch

    ids = [tokens.tokens(int(row)) for row in rows]
    length = max(len(row) for row in ids)
    input_ids = np.full((len(ids), length), tokens.pad_token_id, dtype=np.int64)  # (B, T)
    is_target = np.zeros((len(ids), length), dtype=bool)
    for i, row in enumerate(rows):
        input_ids[i, : len(ids[i])] = ids[i]
        is_target[i, : len(ids[i])] = tokens.mask(int(row))
    is_target[:, 0] = False  # nothing comes before the first token
    targets = np.flatnonzero(is_target)

    wanted = np.concatenate([tokens.pictures(int(row)) for row in rows])
    distinct, index = np.unique(wanted, return_inverse=True)
    places = int(np.count_nonzero(input_ids == image_token_id))
    if places != len(wanted) * tokens.image_tokens:
        raise UserError(
            f"{tokens.directory}: {places} image tokens (id {image_token_id}) for {len(wanted)} pictures of "
            f"{tokens.image_tokens}; these tokens were made for another model"
        )
    pixels = np.empty((len(distinct), 3, preparation.side, preparation.side), dtype=np.uint8)
    for i, picture in enumerate(distinct):
        pixels[i] = _decoded(pictures, int(picture), preparation)
    return Batch(
        input_ids=torch.from_numpy(input_ids),
        pixels=torch.from_numpy(pixels),
        picture_index=torch.from_numpy(index.astype(np.int64)),
        supervised=torch.from_numpy(targets - 1),
        targets=torch.from_numpy(input_ids.reshape(-1)[targets]),
        tokens=sum(len(row) for row in ids),
    )


def _decoded(pictures: PictureStore, i: int, preparation: Preparation) -> npt.NDArray[np.uint8]:
    try:
        return decode(pictures.bytes(i), preparation)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{pictures.directory}: picture {i} cannot be decoded: {reason}") from None


class Batches:
    """The batches of a plan, in its order, made by `workers` processes (0: by this one); same bytes."""

    def __init__(
        self,
        plan: Sequence[npt.NDArray[np.integer]],
        tokens: TokenStore,
        pictures: PictureStore,
        *,
        preparation: Preparation,
        image_token_id: int,
        workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        """`plan` holds row indices of the store for each batch; slice it to go on in the middle of an epoch."""
        self._source = _Source(plan, tokens, pictures, preparation, image_token_id)
        self._workers, self._pin_memory = workers, pin_memory

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[Batch]:
        import torch
        from torch.utils.data import DataLoader

        loader: DataLoader[Batch | UserError] = DataLoader(
            self._source,  # type: ignore[arg-type]
            batch_size=None,  # the plan has made the batches
            shuffle=False,
            num_workers=self._workers,
            collate_fn=_as_it_is,
            pin_memory=self._pin_memory and torch.cuda.is_available(),
            # A fork would copy the locks of threads that MLflow or Arrow have running.
            multiprocessing_context="spawn" if self._workers else None,
            # The loader draws a seed for its workers: not from the global generator, which a resumed run restores.
            generator=torch.Generator(),
        )
        for batch in loader:
            if isinstance(batch, UserError):
                raise batch
            yield batch


@dataclass(frozen=True)
class _Source:
    """What a worker process holds: paths and the plan."""

    plan: Sequence[npt.NDArray[np.integer]]
    tokens: TokenStore
    pictures: PictureStore
    preparation: Preparation
    image_token_id: int

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, i: int) -> Batch | UserError:
        try:
            return collate(self.plan[i], self.tokens, self.pictures, self.preparation, self.image_token_id)
        except UserError as error:
            return error  # raised in a worker, its one line would drown in the loader's traceback


def _as_it_is(batch: Any) -> Any:
    return batch

"""The pass that fills the feature cache, timed on some pictures; and features for steps to read, of any values."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from minivlm.data.features import FeatureStore
from minivlm.data.pixels import PixelReader

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from minivlm.data.pictures import Preparation
    from minivlm.data.store import PictureStore

MOST = 8  # groups of pictures that are timed


@dataclass(frozen=True)
class ReadyFeatures:
    """Features (P, V) = `shape` of every picture, from memory: a disk that is slower than that is not timed."""

    shape: tuple[int, int]
    precision: str

    def read(self, ids: npt.NDArray[np.integer]) -> torch.Tensor:
        """(N, P, V), all ones."""
        import torch

        return torch.ones((len(ids), *self.shape), dtype=torch.bfloat16 if self.precision == "bf16" else None)


def features_shape(config: Any) -> tuple[int, int]:
    """Patches of a picture and width of the tower, of a LLaVA's configuration."""
    vision = config.vision_config
    return (vision.image_size // vision.patch_size) ** 2, vision.hidden_size


def time_filling(
    objective: Any,
    pictures: PictureStore,
    preparation: Preparation,
    *,
    precision: str,
    device: str,
    workers: int,
    seconds: float,
) -> tuple[tuple[float, int], ...]:
    """Seconds and pictures of groups that go through the tower into a store, in about `seconds` seconds.

    One group before them is left out. With `workers` decoding goes on beside the tower: what takes longer counts.
    """
    import numpy as np

    from minivlm.training.feature_cache import BATCH, fill_features

    objective.to(device)
    count = min(len(pictures), MOST * BATCH)
    with TemporaryDirectory(prefix="minivlm-estimate-") as folder:
        store = _Watched.create(Path(folder), count, features_shape(objective.model.config), precision)

        def fill(groups: int) -> list[tuple[float, int]]:
            store.forget(np.arange(count))
            store.ends, reader = [(time.perf_counter(), 0)], _Reader(pictures, preparation)
            wanted = np.arange(min(groups * BATCH, count))
            fill_features(store, wanted, objective, reader, precision=precision, device=device)
            found = zip(store.ends, store.ends[1:], reader.seconds, strict=False)
            return [(beside(end - start, decoded, workers), rows) for (start, _), (end, rows), decoded in found]

        [(first, _)] = fill(1)
        timed: list[tuple[float, int]] = []
        while not timed or (len(timed) < MOST and sum(taken for taken, _ in timed) < seconds):
            timed += fill(max(1, min(MOST - len(timed), round(seconds / max(first, 1e-6)))))
    return tuple(timed)


def beside(seconds: float, decoded: float, workers: int) -> float:
    """Of what one process did in turn: the time it takes where `workers` others decode."""
    return max(seconds - decoded, decoded / workers) if workers else seconds


class _Watched(FeatureStore):
    """A store that notes when pictures were written, and how many."""

    ends: list[tuple[float, int]]

    def write(self, ids: npt.NDArray[np.integer], features: torch.Tensor) -> None:
        super().write(ids, features)
        self.ends.append((time.perf_counter(), len(ids)))


class _Reader(PixelReader):
    """A reader that notes how long each group took to decode."""

    def __init__(self, pictures: PictureStore, preparation: Preparation) -> None:
        super().__init__(pictures, preparation)
        object.__setattr__(self, "seconds", list[float]())

    seconds: list[float]

    def read(self, ids: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        start = time.perf_counter()
        pixels = super().read(ids)
        self.seconds.append(time.perf_counter() - start)
        return pixels

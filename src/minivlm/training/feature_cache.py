"""Fill the cache of vision features before a training, so that its steps read them.

Every picture goes through the frozen tower once, however many epochs and stages read it. It is a pass of its own,
in the order of the store, so that what a picture's features are does not depend on how a training is cut into
batches or where it was stopped.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.data.batches import load
from minivlm.data.features import FeatureStore, features_key
from minivlm.data.pictures import Preparation
from minivlm.data.pixels import PixelReader
from minivlm.data.store import PictureStore, TokenStore

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from minivlm.model.vision_language import VisionLanguageLoss

BATCH = 64  # pictures; fixed, because a number's last bit may depend on it
_FLUSHED = 60.0  # seconds between two points that a killed run goes on from


def open_features(
    folder: Path,
    tower: Path,
    tokens: TokenStore,
    pictures: PictureStore,
    objective: VisionLanguageLoss,
    *,
    precision: str,
    device: str,
    workers: int,
) -> FeatureStore:
    """The features of the pictures of `tokens`, below `folder`, completed where some are missing.

    `tower`: the directory that the objective's tower and its picture preparation are from; the objective is on
    `device`. UserError when a picture cannot be decoded, or the disk has no room.
    """
    config = objective.model.config
    key = features_key(tower, pictures.directory, config.vision_feature_layer, precision)
    shape = (config.image_seq_length, config.vision_config.hidden_size)
    store = FeatureStore(folder / key, len(pictures), shape, precision)
    reader = PixelReader(pictures, Preparation.read(tower))
    wanted, start = tokens.distinct_pictures(), time.monotonic()
    computed = fill_features(store, wanted, objective, reader, precision=precision, device=device, workers=workers)
    print(
        f"features of {len(wanted):,} pictures are in {store.directory}, {computed:,} of them computed now "
        f"in {time.monotonic() - start:.0f} s",
        flush=True,
    )
    return store


def fill_features(
    store: FeatureStore,
    wanted: npt.NDArray[np.integer],
    objective: VisionLanguageLoss,
    reader: PixelReader,
    *,
    precision: str,
    device: str,
    workers: int = 0,
) -> int:
    """Compute what is missing of the `wanted` pictures (ids, ascending) into the store; returns how many were.

    `objective` is on `device`; its tower runs under autocast when `precision` is bf16. UserError when a picture
    cannot be decoded.
    """
    import numpy as np
    import torch

    # Whole groups of the wanted pictures: the same groups, whatever was there before.
    groups = [wanted[i : i + BATCH] for i in range(0, len(wanted), BATCH)]
    groups = [group for group in groups if len(store.missing(group))]
    flushed, training = time.monotonic(), objective.training
    objective.eval()
    kind = torch.device(device).type
    with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16"):
        for group, pixels in zip(groups, load(_Pixels(reader), groups, workers, kind == "cuda"), strict=True):
            store.write(group, objective.picture_features(pixels.to(device, non_blocking=True)))
            if time.monotonic() - flushed > _FLUSHED:
                store.flush()
                flushed = time.monotonic()
    store.flush()
    objective.train(training)
    return int(np.sum([len(group) for group in groups]))


class _Pixels:
    """Pictures as tensors, for worker processes."""

    def __init__(self, reader: PixelReader) -> None:
        self._reader = reader

    def __getitem__(self, ids: npt.NDArray[np.integer]) -> Any:
        import torch

        return torch.from_numpy(self._reader.read(ids))

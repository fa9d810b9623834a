"""Fill the cache of vision features before a training, so that its steps read them.

Every picture goes through the frozen tower once, however many epochs and stages read it. It is a pass of its own,
in groups of neighbours in the picture store, so that what a picture's features are depends neither on how a
training is cut into batches, nor on the stage that asked for it, nor on where that was stopped.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.data.batches import load
from minivlm.data.features import FeatureStore
from minivlm.data.pictures import Preparation
from minivlm.data.pixels import PixelReader
from minivlm.data.store import PictureStore, TokenStore
from minivlm.files import sha256_file, sha256_tree
from minivlm.training.device import loader_workers
from minivlm.training.resume_key import LIBRARIES, PACKAGE, digest_files, versions

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from minivlm.model.vision_language import VisionLanguageLoss

BATCH = 64  # pictures; fixed, because a number's last bit may depend on it
_FLUSHED = 60.0  # seconds between two points that a killed run goes on from
# What turns a file into features: any change of it names another cache. MiniMind's own code has no part in it.
_CODE = ("data/pictures.py", "data/pixels.py", "model/*.py", "training/feature_cache.py")


@dataclass(frozen=True)
class Filled:
    """What completing a cache took: pictures that went through the tower, seconds."""

    pictures: int
    seconds: float


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
) -> tuple[FeatureStore, Filled]:
    """The features of the pictures of `tokens`, below `folder`, completed where some miss; and what it took.

    `tower`: the directory that the objective's tower and its picture preparation are from; the objective is on
    `device`. UserError when a picture cannot be decoded, or the disk has no room.
    """
    config = objective.model.config
    key = features_key(tower, pictures.directory, config.vision_feature_layer, precision, device)
    shape = (config.image_seq_length, config.vision_config.hidden_size)
    store = FeatureStore.create(folder / key, len(pictures), shape, precision)
    reader = PixelReader(pictures, Preparation.read(tower))
    wanted, start = tokens.distinct_pictures(), time.monotonic()
    computed = fill_features(store, wanted, objective, reader, precision=precision, device=device, workers=workers)
    print(
        f"features of {len(wanted):,} pictures are in {store.directory}, {computed:,} of them computed now "
        f"in {(seconds := time.monotonic() - start):.0f} s",
        flush=True,
    )
    return store, Filled(computed, seconds)


def features_key(tower: Path, pictures: Path, layer: int, precision: str, device: str) -> str:
    """What names a cache: all that the features follow from, but for last bits that two devices differ in.

    The tower with its picture preparation, the pictures, the feature layer, the precision, the kind of device, the
    code and the libraries that compute.
    """
    parts = (
        sha256_tree(tower),
        sha256_file(pictures / "hashes.npy"),
        str(layer),
        precision,
        device.partition(":")[0],
        digest_files(PACKAGE, (path for pattern in _CODE for path in PACKAGE.glob(pattern))).hex(),
        *versions(*LIBRARIES),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


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
    """Compute what is missing of the `wanted` pictures (ids) into the store; returns how many were computed.

    Whole groups of `BATCH` neighbours in the store are, whatever of them is wanted or there already: a number's
    last bit may depend on its company. `objective` is on `device`; its tower runs under autocast when `precision`
    is bf16. `workers`: processes that this machine has for decoding, see `loader_workers`. UserError when a
    picture cannot be decoded.
    """
    import numpy as np
    import torch

    from minivlm.model.frozen import frozen_in

    groups = [
        np.arange(start, min(start + BATCH, len(store)))
        for start in (np.unique(store.missing(wanted) // BATCH) * BATCH).tolist()
    ]
    if not groups:
        return 0
    workers = loader_workers(workers, torch.get_num_threads(), device, BATCH * len(groups))
    flushed, training, computed, low = time.monotonic(), objective.training, 0, precision == "bf16"
    objective.eval()
    kind = torch.device(device).type
    with (
        torch.inference_mode(),
        torch.autocast(kind, torch.bfloat16, enabled=low),
        frozen_in(objective.model, precision),
    ):
        for group, pixels in zip(groups, load(_Pixels(reader), groups, workers, kind == "cuda"), strict=True):
            features = objective.picture_features(pixels.to(device, non_blocking=True))
            missing = np.isin(group, store.missing(group))
            store.write(group[missing], features[torch.from_numpy(missing).to(device)])
            computed += int(missing.sum())
            if time.monotonic() - flushed > _FLUSHED:
                store.flush()
                flushed = time.monotonic()
    store.flush()
    objective.train(training)
    return computed


class _Pixels:
    """Pictures as tensors, for worker processes."""

    def __init__(self, reader: PixelReader) -> None:
        self._reader = reader

    def __getitem__(self, ids: npt.NDArray[np.integer]) -> Any:
        import torch

        return torch.from_numpy(self._reader.read(ids))

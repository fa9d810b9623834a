"""A cache on disk of what the frozen vision tower says of each picture, so that it says it once.

`N` pictures of a picture store, `P` patches, `V` width of the tower: features.bin holds (N, P, V) numbers in the
precision of the training, read at random through a memory map; filled.npy (N,) says which pictures are there. At
196 x 768 numbers of two bytes a picture takes 301 KB.

The folder is keyed by all that the features follow from; another tower or preparation gets another folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.errors import UserError
from minivlm.files import atomic_path, sha256_file, sha256_tree

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

_DTYPES = {"bf16": "uint16", "fp32": "float32"}  # NumPy has no bf16: its bits are kept


class FeatureStore:
    """Features by picture id. A copy sent to a worker opens its own maps."""

    def __init__(self, directory: Path, pictures: int, shape: tuple[int, int], precision: str) -> None:
        """Open, or make in `directory`, the features (P, V) = `shape` of `pictures` pictures, fp32 or bf16."""
        import numpy as np

        self._arguments = (directory, pictures, shape, precision)
        self.directory = directory
        path = directory / "features.bin"
        size = pictures * shape[0] * shape[1] * np.dtype(_DTYPES[precision]).itemsize
        if not path.exists():
            directory.mkdir(parents=True, exist_ok=True)
            _require_space(directory, size)
            with path.open("wb") as stream:
                stream.truncate(size)  # a file with holes: the disk is taken as pictures come
            self._save(np.zeros(pictures, bool))
        try:
            self._data = np.memmap(path, _DTYPES[precision], "r", shape=(pictures, *shape))
            self.filled: npt.NDArray[np.bool_] = np.load(directory / "filled.npy", allow_pickle=False)
            if len(self.filled) != pictures:
                raise ValueError
        except (OSError, ValueError):
            raise UserError(f"{directory}: damaged feature cache; delete the folder, it is made again") from None

    def __reduce__(self) -> tuple[Any, ...]:
        return FeatureStore, self._arguments

    def missing(self, ids: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
        """Those of the ids whose features are not there."""
        return ids[~self.filled[ids]]

    def read(self, ids: npt.NDArray[np.integer]) -> torch.Tensor:
        """(N, P, V) of some pictures, in the store's precision, on the CPU."""
        import numpy as np
        import torch

        found = torch.from_numpy(np.ascontiguousarray(self._data[ids]))
        return found.view(torch.bfloat16) if self._data.dtype == np.uint16 else found

    def write(self, ids: npt.NDArray[np.integer], features: torch.Tensor) -> None:
        """Keep the features (N, P, V) of some pictures; they count as there after `flush`."""
        import numpy as np
        import torch

        if self._data.dtype == np.uint16:
            values = features.to("cpu", torch.bfloat16).view(torch.uint16).numpy()
        else:
            values = features.to("cpu", torch.float32).numpy()
        # Not through the map: a write to a map on a full disk ends the process without a word.
        with (self.directory / "features.bin").open("r+b") as stream:
            for i, value in zip(ids.tolist(), values, strict=True):
                stream.seek(i * value.nbytes)
                stream.write(value.tobytes())
        self.filled[ids] = True

    def flush(self) -> None:
        """Make sure that what was written is on the disk, then say that it is there."""
        with (self.directory / "features.bin").open("r+b") as stream:
            os.fsync(stream.fileno())
        self._save(self.filled)

    def _save(self, filled: npt.NDArray[np.bool_]) -> None:
        import numpy as np

        with atomic_path(self.directory / "filled.npy") as temporary, temporary.open("wb") as stream:
            np.save(stream, filled)


def features_key(tower: Path, pictures: Path, layer: int, precision: str) -> str:
    """What names a cache: tower with its picture preparation, feature layer, precision, and the pictures."""
    parts = (sha256_tree(tower), sha256_file(pictures / "hashes.npy"), str(layer), precision)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _require_space(directory: Path, size: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < size:
        raise UserError(
            f"{directory}: the feature cache takes {size / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; "
            "free some, or set runtime.feature_cache: false in params.yaml"
        )

"""A cache on disk of what the frozen vision tower says of each picture, so that it says it once.

`N` pictures of a picture store, `P` patches, `V` width of the tower: features.bin holds (N, P, V) numbers in the
precision of the training, read at random; sums.npy (N,) the crc32 of each picture's bytes there, -1 where there
are none. It is held against what is read: features that a disk has changed would be learnt from like others. At
196 x 768 numbers of two bytes a picture takes 301 KB.

Of a training one process makes the folder and fills it; all others only open it. So a process that does not see
that folder fails: the zeros of an empty file are features too, and a training on them would say nothing. Trainings
that fill one folder at the same time keep each other's marks.
"""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from minivlm.data.store import Flat
from minivlm.errors import UserError
from minivlm.files import atomic_path
from minivlm.locks import exclusive

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

_DTYPES = {"bf16": "uint16", "fp32": "float32"}  # NumPy has no bf16: its bits are kept
_ABSENT = -1
_AGAIN = "delete the folder, it is made again"


class FeatureStore:
    """Features by picture id. A copy sent to another process opens the files there."""

    def __init__(self, directory: Path, pictures: int, shape: tuple[int, int], precision: str) -> None:
        """Open the features (P, V) = `shape` of `pictures` pictures, fp32 or bf16; UserError when not there."""
        import numpy as np

        self._arguments = (directory, pictures, shape, precision)
        self.directory, self._shape, self._path = directory, shape, directory / "features.bin"
        if not self._path.exists():
            raise UserError(
                f"{directory}: no feature cache here; one process writes it, and all have to see its folder"
            )
        dtype, self._numbers = np.dtype(_DTYPES[precision]), shape[0] * shape[1]
        self._data = Flat(self._path, dtype, pictures * self._numbers, _AGAIN)
        self._dtype = dtype
        self._sums = _sums(directory, pictures)

    @classmethod
    def create(cls, directory: Path, pictures: int, shape: tuple[int, int], precision: str) -> Self:
        """The same, made first where it is missing; UserError when the disk has no room for all of it."""
        import numpy as np

        path = directory / "features.bin"
        if _is_empty(path):
            size = pictures * shape[0] * shape[1] * np.dtype(_DTYPES[precision]).itemsize
            with _on_disk(directory):
                directory.mkdir(parents=True, exist_ok=True)
                _require_space(directory, size)
                with _locked(directory):
                    if _is_empty(path):  # no other training has made it by now
                        _save(directory, _no_sums(pictures))
                        # Last, so that no old sums.npy speaks for it. Appending: what is there stays.
                        with path.open("ab") as stream:
                            stream.truncate(size)  # a file with holes: the disk is taken as pictures come
        return cls(directory, pictures, shape, precision)

    def __reduce__(self) -> tuple[Any, ...]:
        return FeatureStore, self._arguments

    def __len__(self) -> int:
        """Pictures that it has room for."""
        return len(self._sums)

    def missing(self, ids: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
        """Those of the ids whose features are not there."""
        return ids[self._sums[ids] == _ABSENT]

    def forget(self, ids: npt.NDArray[np.integer]) -> None:
        """Count the features of some pictures as missing, in this process."""
        self._sums[ids] = _ABSENT

    def read(self, ids: npt.NDArray[np.integer]) -> torch.Tensor:
        """(N, P, V) of some pictures, in the store's precision, on the CPU.

        UserError when one is missing or damaged.
        """
        import numpy as np
        import torch

        if len(missing := self.missing(ids)):
            raise UserError(f"{self.directory}: no features of picture {missing[0]}; {_AGAIN}")
        values = np.empty((len(ids), *self._shape), self._dtype)
        for place, i in zip(values, ids.tolist(), strict=True):
            kept = self._data.read(i * self._numbers, (i + 1) * self._numbers)
            if zlib.crc32(kept) != self._sums[i]:
                raise UserError(f"{self._path}: the features of picture {i} are not those written there; {_AGAIN}")
            place[:] = kept.reshape(self._shape)
        found = torch.from_numpy(values)
        return found.view(torch.bfloat16) if self._dtype == np.uint16 else found

    def write(self, ids: npt.NDArray[np.integer], features: torch.Tensor) -> None:
        """Keep the features (N, P, V) of some pictures; they count as there after `flush`.

        UserError when the disk is full.
        """
        import numpy as np
        import torch

        if self._dtype == np.uint16:
            values = features.to("cpu", torch.bfloat16).view(torch.uint16).numpy()
        else:
            values = features.to("cpu", torch.float32).numpy()
        with _on_disk(self._path), self._path.open("r+b") as stream:
            for i, value in zip(ids.tolist(), values, strict=True):
                stream.seek(i * value.nbytes)
                stream.write(data := value.tobytes())
                self._sums[i] = zlib.crc32(data)

    def flush(self) -> None:
        """Make sure that what was written is on the disk, then say that it is there, beside what others said."""
        import numpy as np

        with _on_disk(self._path):
            with self._path.open("r+b") as stream:
                os.fsync(stream.fileno())
            with _locked(self.directory):
                theirs = _sums(self.directory, len(self._sums))
                self._sums = np.where(self._sums == _ABSENT, theirs, self._sums)
                _save(self.directory, self._sums)


def _is_empty(features: Path) -> bool:
    """Whether the file is not there, or its creation was stopped before it had its size."""
    return not features.exists() or features.stat().st_size == 0


def _sums(directory: Path, pictures: int) -> npt.NDArray[np.int64]:
    """sums.npy; no picture is there where it is missing."""
    import numpy as np

    try:
        sums: npt.NDArray[np.int64] = np.load(directory / "sums.npy", allow_pickle=False)
    except FileNotFoundError:
        return _no_sums(pictures)
    except Exception:  # as for the stores
        raise UserError(f"{directory}: damaged feature cache; {_AGAIN}") from None
    if not isinstance(sums, np.ndarray) or sums.shape != (pictures,) or sums.dtype != np.int64:
        raise UserError(f"{directory}: damaged feature cache; {_AGAIN}")
    return sums


def _no_sums(pictures: int) -> npt.NDArray[np.int64]:
    import numpy as np

    return np.full(pictures, _ABSENT, np.int64)


def _save(directory: Path, sums: npt.NDArray[np.int64]) -> None:
    import numpy as np

    with atomic_path(directory / "sums.npy") as temporary, temporary.open("wb") as stream:
        np.save(stream, sums)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Alone with sums.npy, which is read and written whole."""
    with exclusive(directory / "sums.lock"):
        yield


@contextmanager
def _on_disk(path: Path) -> Iterator[None]:
    """What the disk refuses, in one line: a full one names no file."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror or error}; free some disk, "
            "or set runtime.feature_cache: false in params.yaml"
        ) from None


def _require_space(directory: Path, size: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < size:
        raise UserError(
            f"{directory}: the feature cache takes {size / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; "
            "free some, or set runtime.feature_cache: false in params.yaml"
        )

"""Token and picture stores: flat binary files, read at random.

A token store, artifacts/tokenize/<split>/, holds for R rows of T tokens together, K pictures in all rows:

    tokens.bin  uint16 or uint32 (T)       mask.bin  uint8 (T), 1 = supervised     offsets.npy  int64 (R + 1)
    rows.npy    int64 (R), row numbers     supervised.npy  int32 (R), counts       validation.npy  bool (R)
    pictures.npy  int32 (K), ids           picture_offsets.npy  int64 (R + 1)      meta.json

The picture store, artifacts/tokenize/pictures/, holds each distinct picture of all splits once, by sha256:

    pictures.bin  uint8                    offsets.npy  int64 (N + 1)              hashes.npy  uint8 (N, 32)

Tokens, masks and pictures are read row by row; the other arrays, some thirty bytes a row, are memory maps. So
memory hardly grows with the rows.
"""

from __future__ import annotations

import builtins
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.errors import UserError
from minivlm.files import read_json, sha256_file

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FORMAT = 1
TOKENS, PICTURES = "tokens", "pictures"  # `kind` in meta.json
_COUNTED = {TOKENS: "rows", PICTURES: "pictures"}  # in meta.json
AGAIN = "make it again: dvc repro -f tokenize"


class TokenStore:
    """The rows of one split. Opening costs a few system calls; a copy sent to a worker opens its own files."""

    def __init__(self, directory: Path) -> None:
        """UserError when `directory` holds no token store or a damaged one."""
        import numpy as np

        self.directory = Path(directory)
        self.meta = _meta(self.directory, TOKENS)
        rows = self.meta["rows"]
        self._offsets = _offsets(self.directory, "offsets.npy", rows)
        self._picture_offsets = _offsets(self.directory, "picture_offsets.npy", rows)
        self._tokens = Flat(self.directory / "tokens.bin", np.dtype(self.meta["dtype"]), int(self._offsets[-1]))
        self._mask = Flat(self.directory / "mask.bin", np.dtype(np.uint8), int(self._offsets[-1]))
        self._pictures = _array(self.directory, "pictures.npy", np.int32, (int(self._picture_offsets[-1]),))
        self.row_numbers = _array(self.directory, "rows.npy", np.int64, (rows,))
        self.supervised = _array(self.directory, "supervised.npy", np.int32, (rows,))
        self._validation = _array(self.directory, "validation.npy", np.bool_, (rows,))

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenStore, (self.directory,)

    def check_tokenizer(self, tokenizer: Path) -> None:
        """UserError when the rows were encoded with another tokenizer.json than the one in `tokenizer`."""
        path = tokenizer / "tokenizer.json"
        encoded_with = self.meta.get("tokenizer_sha256")
        if encoded_with is not None and encoded_with != sha256_file(path):
            raise UserError(f"{path}: not the tokenizer that {self.directory} was encoded with; {AGAIN}")

    def __len__(self) -> int:
        return int(self.meta["rows"])

    @property
    def image_token_id(self) -> int:
        """The id that stands for a patch of a picture."""
        return _number(self.meta, "image_token_id", self.directory / "meta.json")

    @property
    def image_tokens(self) -> int:
        """Tokens of one picture."""
        return _number(self.meta, "image_tokens", self.directory / "meta.json")

    @property
    def pad_token_id(self) -> int:
        """The id that fills a batch up."""
        return _number(self.meta, "pad_token_id", self.directory / "meta.json")

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each row, (R,)."""
        import numpy as np

        return np.diff(self._offsets)

    def lengths_of(self, rows: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """Tokens of these rows alone."""
        return self._offsets[rows + 1] - self._offsets[rows]

    def tokens(self, i: int) -> npt.NDArray[np.integer]:
        """The ids of row i."""
        return self._tokens.read(int(self._offsets[i]), int(self._offsets[i + 1]))

    def mask(self, i: int) -> npt.NDArray[np.bool_]:
        """Which tokens of row i are supervised."""
        return self._mask.read(int(self._offsets[i]), int(self._offsets[i + 1])).astype(bool)

    def pictures(self, i: int) -> npt.NDArray[np.int32]:
        """The ids in the picture store of row i's pictures, in the order of their places in the text."""
        return self._pictures[self._picture_offsets[i] : self._picture_offsets[i + 1]]

    def padded(
        self, rows: npt.NDArray[np.integer], length: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Ids and supervised tokens of the rows, (B, length) each, filled up on the right; none may be longer."""
        import numpy as np

        ids = np.full((len(rows), length), self.pad_token_id, dtype=np.int64)
        mask = np.zeros((len(rows), length), dtype=bool)
        starts, stops = self._offsets[rows].tolist(), self._offsets[rows + 1].tolist()
        for i, (start, stop) in enumerate(zip(starts, stops, strict=True)):
            ids[i, : stop - start] = self._tokens.read(start, stop)
            mask[i, : stop - start] = self._mask.read(start, stop)
        return ids, mask

    def pictures_of(self, rows: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
        """The pictures of the rows, one row after another."""
        import numpy as np

        starts = self._picture_offsets[rows]
        counts = self._picture_offsets[rows + 1] - starts
        before = np.cumsum(counts) - counts  # in the result
        at = np.arange(counts.sum()) + np.repeat(starts - before, counts)
        return self._pictures[at]

    def distinct_pictures(self) -> npt.NDArray[np.int32]:
        """The pictures of all rows, each once, ascending."""
        import numpy as np

        return np.unique(self._pictures)

    def training_rows(self) -> npt.NDArray[np.int64]:
        """Indices of the rows to train on, in the order of the file."""
        import numpy as np

        return np.flatnonzero(~self._validation)

    def validation_rows(self) -> npt.NDArray[np.int64]:
        """Indices of the rows kept for the validation loss; none of their pictures is trained on."""
        import numpy as np

        return np.flatnonzero(self._validation)


class PictureStore:
    """The distinct pictures of all splits, encoded (JPEG, PNG …) as they came."""

    def __init__(self, directory: Path) -> None:
        """UserError when `directory` holds no picture store or a damaged one."""
        import numpy as np

        self.directory = Path(directory)
        meta = _meta(self.directory, PICTURES)
        self._offsets = _offsets(self.directory, "offsets.npy", meta["pictures"])
        self._data = Flat(self.directory / "pictures.bin", np.dtype(np.uint8), int(self._offsets[-1]))
        self.hashes = _array(self.directory, "hashes.npy", np.uint8, (meta["pictures"], 32))
        self.sources: tuple[str, ...] = tuple(meta.get("sources", ()))  # whose rows these are; none: drawn here

    def __reduce__(self) -> tuple[Any, ...]:
        return PictureStore, (self.directory,)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def bytes(self, i: int) -> builtins.bytes:
        """The file of picture i."""
        return self._data.read_bytes(int(self._offsets[i]), int(self._offsets[i + 1]))


def _meta(directory: Path, kind: str) -> dict[str, Any]:
    path = directory / "meta.json"
    try:
        meta = read_json(path)
    except FileNotFoundError:
        raise UserError(
            f"{directory}: no {kind} store there; run the tokenize stage: dvc repro tokenize"
        ) from None
    except (OSError, ValueError, RecursionError):
        raise _damaged(path, "not JSON") from None
    if not isinstance(meta, dict) or meta.get("kind") != kind:
        raise UserError(f"{path}: not a {kind} store")
    if meta.get("format") != FORMAT:
        raise UserError(f"{path}: format {meta.get('format')!r}, this version reads {FORMAT}; {AGAIN}")
    _number(meta, _COUNTED[kind], path)
    if kind == TOKENS and meta.get("dtype") not in ("uint16", "uint32"):
        raise _damaged(path, "dtype is neither uint16 nor uint32")
    return meta


def _number(meta: dict[str, Any], name: str, path: Path) -> int:
    value = meta.get(name)
    if not isinstance(value, int) or value < 0:
        raise _damaged(path, f"{name} is {str(value)[:40]!r}, not a number")
    return value


def _array(directory: Path, name: str, dtype: Any, shape: tuple[int, ...]) -> Any:
    import numpy as np

    path = directory / name
    try:
        # An empty file cannot be mapped.
        array = np.load(path, mmap_mode="r" if 0 not in shape else None, allow_pickle=False)
    except FileNotFoundError:
        raise _damaged(path, "missing") from None
    except Exception:  # NumPy reads the header as Python's literals: SyntaxError, TokenError, MemoryError ...
        raise _damaged(path, "not a NumPy file") from None
    if not isinstance(array, np.ndarray):  # np.load also opens archives
        raise _damaged(path, "not a NumPy file")
    if array.dtype != dtype or array.shape != shape:
        expected = f"{np.dtype(dtype)} {shape}"
        raise _damaged(path, f"{array.dtype} {array.shape} where {expected} is expected")
    return array.view(np.ndarray)  # the same pages: what a memmap adds costs microseconds a slice


def _offsets(directory: Path, name: str, count: int) -> Any:
    import numpy as np

    offsets = _array(directory, name, np.int64, (count + 1,))
    if offsets[0] != 0 or np.any(offsets[1:] < offsets[:-1]):
        raise _damaged(directory / name, "offsets that do not rise from 0")
    return offsets


class Flat:
    """A file of numbers, read where it is asked for.

    Not mapped: pages of a map that were read count as the process's memory, in pieces of up to 2 MiB, so that an
    epoch would bring in the whole file.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], count: int, again: str = AGAIN) -> None:
        """UserError when there are not `count` numbers in it; `again`: what the user then does."""
        self._path, self._dtype, self._again, self._file = path, dtype, again, -1
        try:
            size = path.stat().st_size
            self._file = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            raise _damaged(path, "missing", again) from None
        if size != count * dtype.itemsize:
            raise _damaged(path, f"{size:,} bytes where {count * dtype.itemsize:,} are expected", again)

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)

    def read(self, start: int, stop: int) -> Any:
        """The numbers from `start` to `stop`, an array that cannot be written to."""
        import numpy as np

        return np.frombuffer(self.read_bytes(start, stop), self._dtype)

    def read_bytes(self, start: int, stop: int) -> bytes:
        """The same as they lie in the file."""
        size = self._dtype.itemsize
        try:
            data = os.pread(self._file, (stop - start) * size, start * size)
        except OSError as error:  # it names no file
            raise UserError(f"{self._path}: {error.strerror}") from None
        if len(data) != (stop - start) * size:
            raise _damaged(self._path, "it became shorter while it was read", self._again)
        return data


def _damaged(path: Path, what: str, again: str = AGAIN) -> UserError:
    return UserError(f"{path}: damaged store ({what}); {again}")

"""A token store -> what the expectations look at: one line about its files, and a line of numbers for each row.

Tokens and masks are read a million at a time; the arrays of a number or two a row are memory maps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.data.store import Flat, TokenStore
from minivlm.data.validation.findings import PIECE_ROWS
from minivlm.files import read_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

_TOKENS = 1 << 20  # read at once


def read_arrays(folder: Path) -> tuple[dict[str, npt.NDArray[Any]], str | None]:
    """The small arrays of a token store by name, and what is wrong with one of its files (None: nothing).

    The arrays are empty when something is wrong.
    """
    import numpy as np

    arrays: dict[str, npt.NDArray[Any]] = {}
    try:
        meta = read_json(folder / "meta.json")
        rows = meta["rows"]
        if not isinstance(meta.get("pictures"), str):
            raise ValueError("meta.json: names no picture store")
        expected = {
            "offsets": (np.int64, rows + 1),
            "rows": (np.int64, rows),
            "supervised": (np.int32, rows),
            "validation": (np.bool_, rows),
            "picture_offsets": (np.int64, rows + 1),
        }
        for name, (dtype, count) in expected.items():
            arrays[name] = _array(folder / f"{name}.npy", np.dtype(dtype), count)
        pictures = int(arrays["picture_offsets"][-1])
        arrays["pictures"] = _array(folder / "pictures.npy", np.dtype(np.int32), pictures)
        tokens = int(arrays["offsets"][-1])
        for name, size in (("tokens.bin", np.dtype(meta["dtype"]).itemsize), ("mask.bin", 1)):
            found = (folder / name).stat().st_size
            if found != tokens * size:
                raise ValueError(f"{name}: {found:,} bytes where {tokens * size:,} are expected")
    except (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        return {}, " ".join(str(error).replace(f"{folder}/", "").split())
    return arrays, None


def _array(path: Path, dtype: np.dtype[Any], count: int) -> npt.NDArray[Any]:
    import numpy as np

    array = np.load(path, mmap_mode="r" if count else None, allow_pickle=False)
    if array.dtype != dtype or array.shape != (count,):
        raise ValueError(f"{path.name}: {array.dtype} {array.shape} where {dtype} ({count},) is expected")
    return np.asarray(array)


def store_line(
    folder: Path, accepted: npt.NDArray[np.int64], rejected: int, expected: Mapping[str, Any]
) -> dict[str, Any]:
    """What is known of a store as a whole; missing where a fault of a file hides it.

    `accepted`: the row numbers that it was made of, ascending; `rejected`: how many were left out; `expected`:
    what meta.json has to say.
    """
    import numpy as np

    arrays, fault = read_arrays(folder)
    line: dict[str, Any] = {"files": fault}
    if fault:
        return line
    falls = [int(each[0] != 0) + int(np.count_nonzero(np.diff(each) < 0)) for each in offsets_of(arrays)]
    rows = arrays["rows"]
    places = np.minimum(np.searchsorted(accepted, rows), max(len(accepted) - 1, 0))
    strangers = np.count_nonzero(accepted[places] != rows) if len(accepted) else len(rows)
    meta = read_json(folder / "meta.json")
    held = {
        "tokens": int(arrays["offsets"][-1]),
        "supervised_tokens": int(arrays["supervised"].sum()),
        "validation_rows": int(arrays["validation"].sum()),
    }
    return line | {
        "offsets_falling": sum(falls),
        "settings": _difference(meta, expected, "this run"),
        "counts": _difference(meta, held, "the arrays"),
        "rows_not_rising": int(np.count_nonzero(np.diff(rows) <= 0)),
        "rows_not_accepted": int(strangers),
        "rows_and_rejected": len(rows) + rejected,
        "training_rows": int(np.count_nonzero(~arrays["validation"])),
    }


def offsets_of(arrays: Mapping[str, npt.NDArray[Any]]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Where the tokens and where the pictures of each row begin."""
    return arrays["offsets"], arrays["picture_offsets"]


def _difference(meta: Mapping[str, Any], values: Mapping[str, Any], where: str) -> str | None:
    """The first of these values of which meta.json says another, both in words."""
    for name, value in values.items():
        if meta.get(name) != value:
            return f"{name}: {meta.get(name)} in meta.json, {value} in {where}"
    return None


def row_frames(store: TokenStore, trained_on: npt.NDArray[np.bool_]) -> Iterator[pd.DataFrame]:
    """Metadata of the rows of a sound store, at most PIECE_ROWS in a frame.

    `trained_on` marks, of all in the picture store, the pictures of rows that are trained on. Columns: `row` (its
    number in the file), `length` and `supervised` (tokens), `supervised_counts` (told where supervised.npy says
    another number), `image_tokens` (told where they are not as many as the pictures need),
    `supervised_image_tokens`, `highest_id`, `unknown_picture` and `shared_picture` (of a row that is validated on;
    ids of pictures, missing where there is none).
    """
    import numpy as np
    import pandas as pd

    lengths, counts = store.lengths, picture_counts(store)
    is_validated = np.zeros(len(store), bool)
    is_validated[store.validation_rows()] = True
    for first in range(0, len(store), PIECE_ROWS):
        rows = np.arange(first, min(first + PIECE_ROWS, len(store)))
        counted, imaged, both, highest = _token_facts(store, lengths, rows)
        stored = np.asarray(store.supervised[rows], np.int64)
        ids, shown_by = store.pictures_of(rows), np.repeat(np.arange(len(rows)), counts[rows])
        is_unknown = (ids < 0) | (ids >= len(trained_on))
        is_shared = is_validated[rows][shown_by] & ~is_unknown
        is_shared[is_shared] = trained_on[ids[is_shared]]
        needed = counts[rows] * store.image_tokens
        yield pd.DataFrame(
            {
                "row": np.asarray(store.row_numbers[rows]),
                "length": lengths[rows],
                "supervised": stored,
                "supervised_counts": _told("{} in supervised.npy, {} in the mask", stored, counted),
                "image_tokens": _told("{1} image tokens where the pictures need {0}", needed, imaged),
                "supervised_image_tokens": both,
                "highest_id": highest,
                "unknown_picture": _first_of_each(len(rows), shown_by[is_unknown], ids[is_unknown]),
                "shared_picture": _first_of_each(len(rows), shown_by[is_shared], ids[is_shared]),
            }
        )


def picture_counts(store: TokenStore) -> npt.NDArray[np.int64]:
    """Pictures of each row, (R,)."""
    import numpy as np

    offsets = np.load(store.directory / "picture_offsets.npy", mmap_mode="r", allow_pickle=False)
    return np.asarray(np.diff(offsets))


def _token_facts(
    store: TokenStore, lengths: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], ...]:
    """Of each row: supervised tokens, image tokens, those that are both, the highest id (-1 without tokens)."""
    import numpy as np

    total, dtype = int(lengths.sum()), np.dtype(store.meta["dtype"])
    tokens = Flat(store.directory / "tokens.bin", dtype, total)
    mask = Flat(store.directory / "mask.bin", np.dtype(np.uint8), total)
    begin = int(lengths[: rows[0]].sum())
    ends = begin + np.cumsum(lengths[rows])
    found = np.full((4, len(rows)), 0, np.int64)
    found[3] = -1
    first = 0
    while first < len(rows):
        start = int(ends[first] - lengths[rows[first]])
        last = max(first + 1, int(np.searchsorted(ends, start + _TOKENS, side="right")))
        stop = int(ends[last - 1])
        ids, is_supervised = tokens.read(start, stop), mask.read(start, stop) != 0
        is_image = ids == store.image_token_id
        full = first + np.flatnonzero(lengths[rows[first:last]])  # reduceat wants no empty stretch
        if len(full):
            at = ends[full] - lengths[rows[full]] - start
            for line, flags in enumerate((is_supervised, is_image, is_supervised & is_image)):
                found[line, full] = np.add.reduceat(flags, at, dtype=np.int64)
            found[3, full] = np.maximum.reduceat(ids, at)
        first = last
    return tuple(found)


def _first_of_each(count: int, rows: npt.NDArray[np.int64], values: npt.NDArray[np.int32]) -> Any:
    """A column of `count` rows with the first value of each row in `rows` (ascending), missing in the others."""
    import numpy as np
    import pandas as pd

    there, first = np.unique(rows, return_index=True)
    column = pd.array([None] * count, "Int64")
    column[there] = values[first]
    return column


def _told(text: str, one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> Any:
    """Where two numbers differ, both in words."""
    import pandas as pd

    pairs = zip(one.tolist(), other.tolist(), strict=True)
    return pd.array([None if a == b else text.format(a, b) for a, b in pairs], dtype="str")

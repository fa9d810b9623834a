"""How much memory a row of lists in a Parquet file takes, found before it is taken.

A dictionary holds a picture once, and a list of a few bytes can name it any number of times. Here the lists are
read as numbers of the dictionary's entries; where a row's are too large together, it is told instead of decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.data.tables import BATCH_BYTES, holds_lists, open_rows

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_ENTRIES = 1 << 26  # of lists in a group of rows
_ROWS = 64  # measured at once
_PACKED = 100  # times that no pictures and no texts can be packed in what is larger than BATCH_BYTES


class TooLargeError(Exception):
    """The message names the row, and completes `file: ...`."""


def check_lists(path: Path, columns: Sequence[str], limit: int = 0) -> None:
    """TooLargeError where the lists of a row, of the `limit` first ones (0: of all), are larger than BATCH_BYTES.

    Raises as pyarrow does.
    """
    with open_rows(path) as file:
        metadata, parts = file.metadata, [file.schema.column(place).path for place in range(len(file.schema))]
    nested = {place: part for place, part in enumerate(parts) if "." in part and part.partition(".")[0] in columns}
    first = 0
    for number in range(metadata.num_row_groups) if nested else ():
        _read_one(path, number, list(nested.values()))
        group = metadata.row_group(number)
        names = list(_unclear(group, nested))
        for row, size in enumerate(_sizes(path, number, names) if names else (), first):
            if limit and row >= limit:
                return
            if size > BATCH_BYTES:
                raise TooLargeError(f"row {row:,}: lists that are together larger than {BATCH_BYTES:,} bytes")
        first += group.num_rows
        if limit and first >= limit:
            return


def _read_one(path: Path, group: int, parts: Sequence[str]) -> None:
    """Read a row, as numbers: of metadata that contradict themselves pyarrow then raises.

    Where it is asked for these metadata themselves, it ends the process.
    """
    columns = sorted({part.partition(".")[0] for part in parts})
    with open_rows(path, as_numbers=parts) as file:
        next(file.iter_batches(1, row_groups=[group], columns=columns), None)


def _unclear(group: Any, parts: Mapping[int, str]) -> Iterator[str]:
    """The paths of those parts, by place, of which the metadata does not say that their rows are small."""
    for place, path in parts.items():
        part, name = group.column(place), path.partition(".")[0]
        if part.num_values > _ENTRIES:
            raise TooLargeError(f"{name}: lists of {part.num_values:,} entries in {group.num_rows:,} rows")
        if not part.has_dictionary_page:
            continue
        if part.total_uncompressed_size > BATCH_BYTES:
            if part.total_uncompressed_size > _PACKED * part.total_compressed_size:
                raise TooLargeError(f"{name}: {part.total_uncompressed_size:,} bytes, packed into hardly any")
        elif (part.num_values - group.num_rows + 1) * part.total_uncompressed_size > BATCH_BYTES:
            yield path


def _sizes(path: Path, group: int, names: list[str]) -> Iterator[int]:
    """Bytes of what each row's lists name, by row."""
    import numpy as np

    columns = sorted({name.partition(".")[0] for name in names})
    with open_rows(path, as_numbers=names) as file:
        for batch in file.iter_batches(_ROWS, row_groups=[group], columns=columns):
            yield from np.sum([_row_sizes(column) for column in batch.columns], axis=0).tolist()


def _row_sizes(array: Any) -> npt.NDArray[np.int64]:
    """Bytes of the dictionary's entries in each value of an Arrow array, however deep they lie."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if holds_lists(array.type):
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
        ends, inner = np.cumsum(lengths), _row_sizes(array.flatten())
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(inner)])
        return np.asarray(before[ends] - before[ends - lengths], np.int64)
    if pa.types.is_struct(array.type):
        return np.sum([_row_sizes(field) for field in array.flatten()], axis=0, dtype=np.int64)
    if pa.types.is_dictionary(array.type):
        lengths = pc.binary_length(array.dictionary).take(array.indices)
        return np.asarray(pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False), np.int64)
    return np.zeros(len(array), np.int64)

"""The accepted rows of a split, in record batches: conversations and encoded pictures, no other column."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from minivlm.data.tables import open_rows, row_batches
from minivlm.data.validation.conversation import ConversationError, Turn, parse_turns
from minivlm.data.validation.picture import row_pictures
from minivlm.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_BATCH_ROWS = 512  # with pictures of 100 KB, 50 MB a batch


class Row(NamedTuple):
    """One row; `id` is `split:row number`."""

    number: int
    id: str
    turns: list[Turn]
    pictures: tuple[bytes, ...]  # encoded, in the order of their <image>; empty for a row of text alone


def accepted_rows(path: Path) -> npt.NDArray[np.int64]:
    """The row numbers that validation accepted, ascending; UserError when the file is missing or foreign."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(path, columns=["row"])["row"].to_numpy()
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run the validate stage first: dvc repro validate") from None
    except (pa.ArrowException, KeyError, OSError) as error:
        raise UserError(f"{path}: not a list of accepted rows: {_one_line(error)}") from None
    if rows.dtype != np.int64 or np.any(np.diff(rows) <= 0):
        raise UserError(f"{path}: not a list of accepted rows: row numbers do not ascend")
    return rows


def read_rows(table: Path, accepted: npt.NDArray[np.int64]) -> Iterator[list[Row]]:
    """The accepted rows of a Parquet file, in its order, some hundred at a time.

    UserError when the file is missing, damaged or shorter than the accepted row numbers, or names a row whose
    conversation cannot be read.
    """
    import numpy as np
    import pyarrow as pa

    split, start = table.stem, 0
    try:
        with open_rows(table) as file:
            if len(accepted) and accepted[-1] >= file.metadata.num_rows:
                raise UserError(
                    f"{table}: {file.metadata.num_rows:,} rows, but row {accepted[-1]:,} was accepted of it; "
                    "check it anew: dvc repro validate"
                )
            for batch in row_batches(file, _BATCH_ROWS, ("conversations", "image_bytes")):
                first, last = np.searchsorted(accepted, (start, start + batch.num_rows))
                chosen = batch.take(pa.array(accepted[first:last] - start))
                yield [
                    _row(split, number, text, picture)
                    for number, text, picture in zip(
                        accepted[first:last].tolist(),
                        chosen["conversations"].cast(pa.large_binary()).to_pylist(),
                        chosen["image_bytes"].to_pylist(),
                        strict=True,
                    )
                ]
                start += batch.num_rows
    except FileNotFoundError:
        raise UserError(f"{table}: not found; run the download stage first: dvc repro download") from None
    except (pa.ArrowException, KeyError, OSError) as error:
        raise UserError(f"{table}: damaged Parquet file: {_one_line(error)}; fetch or make it again") from None


def _row(split: str, number: int, text: bytes | None, picture: Any) -> Row:
    identity = f"{split}:{number}"
    try:
        turns = parse_turns(text)
    except ConversationError as error:
        raise UserError(
            f"{identity}: its conversation is {error}; check the rows anew: dvc repro validate"
        ) from None
    pictures = tuple(data for data in row_pictures(picture) if data is not None)
    return Row(number, identity, turns, pictures)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]

"""What MLflow calls to load a registered model and to ask it: `mlflow.pyfunc.load_model`, `mlflow models serve`.

A version in the registry holds this package beside the weights, and names this module as its loader. So a picture
gets the caption that `minivlm caption` gives it: both ask `minivlm.generation`. In: a table with the column
`image` (base64, a data URI, or the bytes) and perhaps `question`; out: a table with the column `caption`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from minivlm.data.data_uri import from_base64, is_data_uri, picture_bytes
from minivlm.data.validation.picture import MAX_PICTURE_BYTES
from minivlm.errors import UserError
from minivlm.generation.caption_files import check_length, printable
from minivlm.generation.captions import caption_pictures
from minivlm.generation.loading import load_model
from minivlm.generation.opening import picture_size, read_picture

if TYPE_CHECKING:
    import pandas as pd

_T = TypeVar("_T")

BATCH_SIZE = 8  # pictures computed at once, as many as `minivlm caption` takes
_NAMED_FAULTS = 5  # rows whose faults are told, of a table with many


def _load_pyfunc(data_path: str, model_config: dict[str, Any]) -> Captioner:
    """What MLflow calls with the LLaVA directory, and what is asked of it as that was saved or overridden."""
    longest = int(model_config["max_new_tokens"])
    return Captioner(Path(data_path), str(model_config["question"]), longest, str(model_config["device"]))


class Captioner:
    """A loaded model that answers tables; one batch at a time, as MLflow's server asks from several threads.

    One picture at a time is decoded, however many rows and requests there are.
    """

    def __init__(self, directory: Path, question: str, longest: int, device: str) -> None:
        self._model, self._processor = load_model(directory, device)
        self._question, self._longest, self._lock = question, longest, threading.Lock()

    def predict(self, table: pd.DataFrame, params: dict[str, Any]) -> pd.DataFrame:
        """A caption for each row; `params` has `max_new_tokens`.

        MlflowException with INVALID_PARAMETER_VALUE, which the server answers as 400, when a row is not what it
        should be: all of it is refused, and the rows at fault are named.
        """
        import pandas as pd

        try:
            asked = [None] * len(table) if "question" not in table else list(table["question"])
            return pd.DataFrame({"caption": self._captions(list(table["image"]), asked, params["max_new_tokens"])})
        except UserError as error:
            _refuse(str(error))

    def _captions(self, images: list[Any], asked: list[Any], longest: int | None) -> list[str]:
        longest = self._longest if longest is None else int(longest)
        if longest < 1:
            raise UserError(f"max_new_tokens is {longest}; take 1 or more")
        check_length(self._model, longest)
        questions = [_question(value, self._question) for value in asked]
        encoded = _sound([_encoded(value) for value in images])
        _sound([picture_size(data) for data in encoded])  # all headers before the first is decoded
        captions = [""] * len(encoded)
        for question in dict.fromkeys(questions):
            rows = [row for row, value in enumerate(questions) if value == question]
            for start in range(0, len(rows), BATCH_SIZE):
                batch = {row: encoded[row] for row in rows[start : start + BATCH_SIZE]}
                with self._lock:
                    said = self._answer(batch, question, longest)
                for row, caption in zip(batch, said, strict=True):
                    captions[row] = printable(caption)
        return captions

    def _answer(self, batch: dict[int, bytes], question: str, longest: int) -> list[str]:
        """What is said of encoded pictures by their rows; one of them is decoded at a time."""
        pictures = (_sound([read_picture(data)], [row])[0] for row, data in batch.items())
        return caption_pictures(
            self._model, self._processor, pictures, question, batch_size=BATCH_SIZE, max_new_tokens=longest
        )


def _refuse(reason: str) -> NoReturn:
    from mlflow.exceptions import MlflowException

    raise MlflowException.invalid_parameter_value(reason) from None


def _sound(read: Sequence[_T | str], rows: Sequence[int] = ()) -> list[_T]:
    """What was read of pictures; UserError that names the `rows` (all of them) where that is a fault in words."""
    numbered = zip(rows or range(len(read)), read, strict=True)
    faults = [f"row {row}: {each}" for row, each in numbered if isinstance(each, str)]
    if faults:
        more = f"; and {len(faults) - _NAMED_FAULTS} more" if len(faults) > _NAMED_FAULTS else ""
        raise UserError("column 'image': " + "; ".join(faults[:_NAMED_FAULTS]) + more)
    return [each for each in read if not isinstance(each, str)]


def _encoded(value: Any) -> bytes | str:
    """The bytes of a picture, or in words why there are none."""
    if _is_missing(value):
        return "missing"
    if isinstance(value, str):
        text = "".join(value.split())
        try:
            value = picture_bytes(text) if is_data_uri(text) else from_base64(text)
        except ValueError:
            return "neither base64 nor a data URI of a picture (data:image/jpeg;base64,…); send its bytes so"
    if not isinstance(value, bytes | bytearray | memoryview):
        return f"{type(value).__name__}, not a picture's bytes or base64 of them"
    if len(value) > MAX_PICTURE_BYTES:
        return f"{len(value):,} bytes, over {MAX_PICTURE_BYTES:,}"
    return bytes(value)


def _question(value: Any, default: str) -> str:
    """What a row asks; where it says nothing, the question that the model was judged with."""
    if _is_missing(value):
        return default
    if not isinstance(value, str):
        raise UserError(f"column 'question': {type(value).__name__}, not text")
    return value


def _is_missing(value: Any) -> bool:
    """None and pandas' other missing values; an array or a list is none, whatever is in it."""
    import pandas as pd

    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))

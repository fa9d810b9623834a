"""Which model answers, for `caption`, `chat` and `serve`."""

from pathlib import Path

from minivlm.errors import UserError
from minivlm.paths import Paths


def answering_model(named: Path | None) -> Path:
    """The directory that --model names, or that of sft; UserError where no model is in it.

    Asked before torch is imported, which takes seconds.
    """
    directory = named or Paths().model("sft")
    if not (directory / "config.json").is_file():
        what_to_do = (
            "--model names a LLaVA directory" if named else "train one (make repro), or name one with --model"
        )
        raise UserError(f"{directory}: no model there; {what_to_do}")
    return directory

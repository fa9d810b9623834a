"""What a model was saved with, stored beside it: the hash of every file, and the text loss of a fixed batch.

By the hashes a tokenizer, a picture processor or weights that were exchanged for others are noticed before they
are loaded: each would load, and the model would talk nonsense. The loss is proof that what was loaded is what is
saved: a loader that drops weights silently (the original's did, once) leaves a model that trains, badly. No stage
starts with it: the mean over the batch is compared, and every token's loss, because a change of a few weights may
cancel out in a mean.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.errors import UserError
from minivlm.files import read_json, sha256_file, write_text

if TYPE_CHECKING:
    import torch

FILE = "fingerprint.json"
TOLERANCE = 1e-3  # nats; the last bits differ between machines and numbers of threads
_ROWS, _LENGTH = 4, 48
_READ = (".json", ".jinja", ".safetensors", ".bin", ".model", ".txt")  # of what loading reads


def saved_files(directory: Path) -> dict[str, str]:
    """Name below `directory` → sha256 of every file that loading the model may read, hidden ones left out."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory)
        hidden = any(part.startswith(".") for part in name.parts)
        if path.suffix in _READ and path.name != FILE and path.is_file() and not hidden:
            found[name.as_posix()] = sha256_file(path)
    return found


def check_files(directory: Path) -> None:
    """UserError unless the files of a model are those that it was saved with: the first that is not, by its name.

    A directory without a fingerprint was not saved here, and there is nothing that it could be held against.
    """
    path = directory / FILE
    if not path.is_file():
        return
    try:
        stored = read_json(path)["files"]
        saved = {str(name): str(digest) for name, digest in stored.items()}
        present = saved_files(directory)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path}: damaged, or of an older version; make the model again") from None
    for name in sorted(saved.keys() | present.keys()):
        if present.get(name) == saved.get(name):
            continue
        if name not in present:
            raise UserError(f"{directory / name}: missing; the model was saved with it: put it back")
        if name not in saved:
            raise UserError(f"{directory / name}: the model was saved without it, and loading would read it")
        raise UserError(
            f"{directory / name}: not the file that the model was saved with: its sha256 is {present[name]}, "
            f"{FILE} has {saved[name]}; put it back, or make the model again"
        )


def text_loss(model: Any, ids: torch.Tensor) -> float:
    """Mean nats a token of `ids` (rows, tokens), without a picture; see token_losses."""
    return float(token_losses(model, ids).mean())


def token_losses(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Nats of each token but the first of `ids` (rows, tokens), (rows, tokens - 1), without gradients.

    `model` is a causal language model or a LlavaForConditionalGeneration.
    """
    import torch

    decoder = getattr(model.base_model, "language_model", model.base_model)
    with torch.inference_mode():
        ids = ids.to(model.device)
        hidden_states = decoder(ids, use_cache=False).last_hidden_state
        logits = model.get_output_embeddings()(hidden_states[:, :-1]).float()  # (rows, tokens - 1, vocabulary)
        return torch.nn.functional.cross_entropy(logits.mT, ids[:, 1:], reduction="none").cpu()


def write_fingerprint(model: Any, directory: Path, seed: int) -> float:
    """Draw a batch of token ids from `seed`, write it with its losses as fingerprint.json; the mean.

    All other files of the model have to be in `directory` already: their hashes are written as well.
    """
    import torch

    config = model.config.get_text_config()
    generator = torch.Generator().manual_seed(seed)
    length = min(_LENGTH, getattr(config, "max_position_embeddings", None) or _LENGTH)
    ids = torch.randint(config.vocab_size, (_ROWS, length), generator=generator)
    losses = token_losses(model, ids)
    loss = round(float(losses.mean()), 6)
    rounded = [[round(each, 6) for each in row] for row in losses.tolist()]
    stored = {"files": saved_files(directory), "loss": loss, "ids": ids.tolist(), "losses": rounded}
    write_text(directory / FILE, json.dumps(stored) + "\n")
    return loss


def check_fingerprint(model: Any, directory: Path) -> float:
    """Compute the stored batch's losses again; the mean. Call `check_files` before the model is loaded.

    UserError when the fingerprint is missing, or the mean or a token's loss is off by more than TOLERANCE.
    """
    import torch

    path = directory / FILE
    try:
        stored = read_json(path)
        expected, ids = float(stored["loss"]), torch.tensor(stored["ids"])
        each = torch.tensor(stored["losses"], dtype=torch.float64)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: no fingerprint of the model there ({said}); run its stage again") from None
    vocabulary = model.config.get_text_config().vocab_size
    if (
        ids.dtype != torch.int64  # not of true and false either
        or ids.ndim != 2
        or not (0 < ids.shape[0] <= _ROWS and 0 < ids.shape[1] <= _LENGTH)
        or each.shape != (len(ids), ids.shape[1] - 1)
        or int(ids.min()) < 0
    ):
        raise UserError(f"{path}: no fingerprint of the model there (its batch has no shape); run its stage again")
    if int(ids.max()) >= vocabulary:
        raise UserError(f"{path}: not the same weights: the loaded model knows {vocabulary} tokens")
    losses = token_losses(model, ids)
    loss, worst = float(losses.mean()), float((losses - each).abs().max())
    if not (abs(loss - expected) <= TOLERANCE and worst <= TOLERANCE):
        raise UserError(
            f"{path}: not the same weights: the text loss of the loaded model is {loss:.6f}, it was saved with "
            f"{expected:.6f}; a token's differs by {worst:.6f} (at most {TOLERANCE})"
        )
    return loss

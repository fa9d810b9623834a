"""The text loss of a fixed batch, stored beside a model: proof that what was loaded is what is saved.

A loader that drops weights silently (the original's did, once) leaves a model that trains, badly. No stage starts
with it: the mean over the batch is compared, and every token's loss, because a change of a few weights may cancel
out in a mean.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.errors import UserError
from minivlm.files import read_json, write_text

if TYPE_CHECKING:
    import torch

FILE = "fingerprint.json"
TOLERANCE = 1e-3  # nats; the last bits differ between machines and numbers of threads
_ROWS, _LENGTH = 4, 48


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
    """Draw a batch of token ids from `seed`, write it with its losses as fingerprint.json; the mean."""
    import torch

    config = model.config.get_text_config()
    generator = torch.Generator().manual_seed(seed)
    length = min(_LENGTH, getattr(config, "max_position_embeddings", None) or _LENGTH)
    ids = torch.randint(config.vocab_size, (_ROWS, length), generator=generator)
    losses = token_losses(model, ids)
    loss = round(float(losses.mean()), 6)
    rounded = [[round(each, 6) for each in row] for row in losses.tolist()]
    write_text(directory / FILE, json.dumps({"loss": loss, "ids": ids.tolist(), "losses": rounded}) + "\n")
    return loss


def check_fingerprint(model: Any, directory: Path) -> float:
    """Compute the stored batch's losses again; the mean.

    UserError when the file is missing, or when the mean or a token's loss is off by more than TOLERANCE.
    """
    import torch

    path = directory / FILE
    try:
        stored = read_json(path)
        expected, ids, each = float(stored["loss"]), torch.tensor(stored["ids"]), torch.tensor(stored["losses"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: no fingerprint of the model there ({error}); run its stage again") from None
    vocabulary = model.config.get_text_config().vocab_size
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

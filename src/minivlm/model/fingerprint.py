"""The text loss of a fixed batch, stored beside a model: proof that what was loaded is what was saved.

A loader that drops weights silently (the original's did, once) leaves a model that trains, badly. Its text loss is
off by whole nats, and no stage starts with it.
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
    """Mean nats a token of `ids` (rows, tokens), pictures apart, in float32 and without gradients.

    `model` is a LlamaForCausalLM or a LlavaForConditionalGeneration.
    """
    import torch

    decoder = getattr(model.model, "language_model", model.model)
    with torch.inference_mode():
        hidden_states = decoder(ids.to(model.device), use_cache=False).last_hidden_state
        logits = model.lm_head(hidden_states[:, :-1]).float()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten().to(model.device))
    return float(loss)


def write_fingerprint(model: Any, directory: Path, seed: int) -> float:
    """Draw a batch of token ids from `seed`, write it with its loss as `directory`/fingerprint.json; the loss."""
    import torch

    config = model.config.get_text_config()
    generator = torch.Generator().manual_seed(seed)
    length = min(_LENGTH, config.max_position_embeddings)
    ids = torch.randint(config.vocab_size, (_ROWS, length), generator=generator)
    loss = round(text_loss(model, ids), 6)
    write_text(directory / FILE, json.dumps({"loss": loss, "ids": ids.tolist()}) + "\n")
    return loss


def check_fingerprint(model: Any, directory: Path) -> float:
    """Compute the stored batch's loss again; UserError when it is missing or off by more than TOLERANCE."""
    import torch

    path = directory / FILE
    try:
        stored = read_json(path)
        expected, ids = float(stored["loss"]), torch.tensor(stored["ids"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: no fingerprint of the model there ({error}); run its stage again") from None
    loss = text_loss(model, ids) if int(ids.max()) < model.config.get_text_config().vocab_size else float("nan")
    if not abs(loss - expected) <= TOLERANCE:
        raise UserError(
            f"{path}: the text loss of the loaded model is {loss:.6f}, it was saved with {expected:.6f}: "
            "these are not the same weights"
        )
    return loss

"""Negative log-likelihood of held-out answers, given any picture: what the image gap compares.

`B` rows in a batch, `T` tokens, `P` image tokens of a picture, `D` width of the language model. Vision tower and
projector see every picture once; exchanging pictures then means exchanging their features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from minivlm.data.encoding import ChatEncoder
from minivlm.evaluation.heldout import Row
from minivlm.generation.prompts import picture_features

if TYPE_CHECKING:
    from PIL import Image


class RowLoss:
    """`loss(rows, pictures)`: nats and supervised tokens of rows that see the pictures at the given positions."""

    def __init__(self, model: Any, processor: Any, pictures: Sequence[Image.Image], batch_size: int) -> None:
        """Encode `pictures`; `batch_size` bounds pictures, and rows, that are computed at once."""
        import torch

        self._model, self._encoder, self._batch_size = model, ChatEncoder.of(processor), batch_size
        starts = range(0, len(pictures), batch_size)
        parts = [picture_features(model, processor, pictures[i : i + batch_size]) for i in starts]
        self._features = torch.cat(parts)  # (pictures, P, D)
        self._encoded: dict[int, tuple[list[int], list[bool]]] = {}  # row number -> its tokens

    def __call__(self, rows: Sequence[Row], pictures: Sequence[int]) -> tuple[float, int]:
        """Sum of negative log-likelihoods in nats and number of supervised tokens; sums are kept in float64."""
        # Rows of like length share a batch: padding to the longest then costs little.
        order = sorted(range(len(rows)), key=lambda i: len(self._tokens(rows[i])[0]))
        nats, tokens = 0.0, 0
        for start in range(0, len(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            some_nats, some = self._batch([self._tokens(rows[i]) for i in batch], [pictures[i] for i in batch])
            nats, tokens = nats + some_nats, tokens + some
        return nats, tokens

    def _tokens(self, row: Row) -> tuple[list[int], list[bool]]:
        if row.number not in self._encoded:
            self._encoded[row.number] = encode(self._encoder, row.turns, self._features.shape[1])
        return self._encoded[row.number]

    def _batch(self, rows: Sequence[tuple[list[int], list[bool]]], pictures: Sequence[int]) -> tuple[float, int]:
        """Loss of rows padded on the right: causal attention never sees the padding, so no mask is needed."""
        import torch

        device, config = self._model.device, self._model.config
        length = max(len(ids) for ids, _ in rows)
        ids = torch.full((len(rows), length), self._encoder.pad_token_id)  # (B, T)
        supervised = torch.zeros(len(rows), length, dtype=torch.bool)
        for i, (tokens, mask) in enumerate(rows):
            ids[i, : len(tokens)] = torch.tensor(tokens)
            supervised[i, : len(mask)] = torch.tensor(mask)
        ids, supervised = ids.to(device), supervised.to(device)
        with torch.inference_mode():
            embeddings = self._model.get_input_embeddings()(ids)  # (B, T, D)
            is_image = (ids == config.image_token_id)[..., None]
            embeddings = embeddings.masked_scatter(is_image, self._features[torch.tensor(pictures)])
            hidden = self._model.model.language_model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
            # The token at t is predicted at t - 1; logits are computed where a token is supervised, nowhere else.
            logits = self._model.lm_head(hidden[:, :-1][supervised[:, 1:]]).float()
            targets = ids[:, 1:][supervised[:, 1:]]
            nats = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
        return float(nats), int(targets.numel())


def encode(
    encoder: ChatEncoder, turns: Sequence[dict[str, str]], image_tokens: int
) -> tuple[list[int], list[bool]]:
    """Token ids of a conversation, its picture as `image_tokens` tokens, and which of them are supervised.

    The model's one template and the one loss mask, so that the loss is the one that training minimises.
    """
    [row] = encoder.encode_rows([turns], image_tokens)
    return row.ids.tolist(), row.mask.tolist()

"""The training objective of a LLaVA model, without the waste of its plain forward pass.

`B` rows, `T` tokens of the longest, `S` supervised positions of all rows, `N` distinct pictures, `I` pictures as
the rows name them, `P` patches, `V` and `D` widths of tower and language model.

What is left out changes no number: the tower keeps nothing for a backward pass that never comes; layers above the
feature layer are not run; the identity after the projector is skipped; causal attention with padding on the right
needs no mask; logits exist where a token is supervised. A test holds it against transformers' own forward pass.
Attention and norms are computed in fewer passes over the memory (`attention`, `norms`), alike up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Self

import torch
from torch import nn
from torch.nn import functional

from minivlm.model.attention import use_matmul_attention
from minivlm.model.llava import tower_features
from minivlm.model.norms import use_fused_norms
from minivlm.model.resize import resize


class VisionLanguageBatch(Protocol):
    """Rows padded on the right, each picture once; see `minivlm.data.batches`."""

    input_ids: torch.Tensor  # (B, T) int64
    pixels: torch.Tensor  # (N, 3, H, W) uint8
    picture_index: torch.Tensor  # (I,) int64: rows' pictures in reading order → which of N
    image_places: torch.Tensor  # (I * P,) int64: positions in (B * T) where `<image>` stands, in reading order
    supervised: torch.Tensor  # (S,) int64: positions in (B * T) whose next token is supervised
    targets: torch.Tensor  # (S,) int64: those next tokens; -100 where none is supervised
    features: torch.Tensor | None  # (N, P, V): of the pictures, where they are known; then there are no pixels


class VisionLanguageLoss(nn.Module):
    """Sum of the negative log-likelihoods of a batch's supervised tokens, in nats, float32."""

    def __init__(
        self,
        model: Any,
        image_mean: Sequence[float],
        image_std: Sequence[float],
        preparation: tuple[int, int | None, int] | None = None,
    ) -> None:
        """`model`: a LlavaForConditionalGeneration; mean and deviation by channel, of its image processor.

        `preparation`: side, edge and filter that pictures of other sizes are resized by (see `resize`); without,
        they have to come as the tower takes them.
        """
        super().__init__()
        self.preparation = preparation
        self.scale: torch.Tensor
        self.shift: torch.Tensor
        self.model = model
        use_matmul_attention(model.model.language_model)
        use_matmul_attention(model.model.vision_tower)
        use_fused_norms(model.model.language_model)
        scale, shift = scale_and_shift(image_mean, image_std)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    def train(self, mode: bool = True) -> Self:
        """Training mode, the frozen tower excepted."""
        super().train(mode)
        self.model.model.vision_tower.eval()
        return self

    def forward(self, batch: VisionLanguageBatch) -> torch.Tensor:
        """The sum over the S supervised tokens; divide by S for the mean."""
        embeddings = self.embed(
            batch.input_ids, batch.pixels, batch.picture_index, batch.image_places, batch.features
        )
        outputs = self.model.model.language_model(inputs_embeds=embeddings, use_cache=False)
        supervised = outputs.last_hidden_state.flatten(0, 1).index_select(0, batch.supervised)  # (S, D)
        logits = self.model.lm_head(supervised)  # (S, vocabulary)
        return functional.cross_entropy(logits.float(), batch.targets, reduction="sum")

    def embed(
        self,
        input_ids: torch.Tensor,
        pixels: torch.Tensor,
        picture_index: torch.Tensor,
        image_places: torch.Tensor,
        features: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(B, T, D): the tokens' embeddings, with the pictures' projected features where `<image>` stands.

        The places come with the batch: a mask of them would be counted on the device, forward or backward, and the
        CPU would wait for the number.
        """
        embeddings = self.model.get_input_embeddings()(input_ids)
        if not len(picture_index):
            # The projector is reached all the same: other processes wait for its gradient, and the optimizer.
            nothing = self.project(self.scale.new_zeros(1, self.model.config.vision_config.hidden_size))
            return embeddings + 0 * nothing.to(embeddings.dtype)
        features = self.picture_features(pixels) if features is None else features
        features = self.project(features).index_select(0, picture_index)  # (I, P, D)
        flat = embeddings.flatten(0, 1).index_copy(0, image_places, features.flatten(0, 1).to(embeddings.dtype))
        return flat.view_as(embeddings)

    @torch.no_grad()
    def picture_features(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N, P, V): the frozen tower's features of N uint8 pictures, resized and normalised on the device.

        Not under inference_mode: the projector's backward pass keeps the features, and may keep no such tensors.
        """
        if self.preparation and pixels.shape[-2:] != (self.preparation[0],) * 2:
            pixels = resize(pixels, *self.preparation)
        normalised = pixels * self.scale + self.shift
        return tower_features(self.model.model.vision_tower, normalised, self.model.config.vision_feature_layer)

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """(…, V) → (…, D): the one linear map."""
        projector = self.model.model.multi_modal_projector
        return functional.linear(features, projector.linear_1.weight, projector.linear_1.bias)


def scale_and_shift(mean: Sequence[float], std: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Two (1, 3, 1, 1) by colour: (x / 255 - mean) / std of a pixel x, as one product and one sum."""
    means, deviations = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std))
    return 1 / (255 * deviations), -means / deviations

"""A plain training step that works as the original's: what this project's step is measured against.

It was written after reading jingyaogong/minimind-v at a157b66 (trainer/train_pretrain_vlm.py, train_sft_vlm.py,
model/model_vlm.py, model/model_minimind.py, dataset/lm_dataset.py) and does what that does:

- every row is padded to 640 (pretrain) or 1,536 (sft) tokens, 16 or 4 rows a batch, and shifted by one;
- the tower runs on every row's picture, in float32 on a CPU and under the bf16 autocast of everything on a GPU,
  with all its layers and the pooled output that nobody reads;
- a Python loop over the rows puts the features between the text's embeddings;
- logits at all positions, cross entropy without reduction, times the loss mask;
- attention is scaled_dot_product_attention without a mask, which that commit takes while training (an older one
  builds the score matrix); keys and values are repeated for the heads that share them; the residual sum is made in
  place, so that under autocast it stays in bf16;
- AdamW as torch.optim has it by default, gradients of all parameters clipped to 1;
- pictures are opened and go through the image processor row by row, in eight worker processes.

Left out, each in its favour: emptying the CUDA cache after every step, saving twice every 100 steps, tokenizing
and searching the loss mask anew in every epoch, a learning rate computed for every step.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

if TYPE_CHECKING:
    from minivlm.data.store import PictureStore, TokenStore

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
"""Ids (B, T - 1), their successors (B, T - 1), loss mask (B, T - 1), pixels (B, N, 1, 3, side, side)."""


@dataclass(frozen=True)
class Defaults:
    """What the original's command lines give a stage."""

    max_length: int
    batch_size: int
    learning_rate: float


DEFAULTS = {"pretrain": Defaults(640, 16, 4e-4), "sft": Defaults(1536, 4, 1e-6)}
WORKERS = 8
MAX_GRAD_NORM = 1.0


class PaddedRows(Dataset[Batch]):
    """Rows of a token store as the original's data set gives them, `max_length` tokens each."""

    def __init__(
        self, rows: Sequence[int], tokens: TokenStore, pictures: PictureStore, processor: Any, max_length: int
    ) -> None:
        """`processor`: the image processor of the model's directory."""
        self._rows, self._tokens, self._pictures = rows, tokens, pictures
        self._processor, self._max_length = processor, max_length

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> Batch:
        row, length = int(self._rows[i]), self._max_length
        ids = [int(token) for token in self._tokens.tokens(row)][:length]
        mask = [int(each) for each in self._tokens.mask(row)][:length]
        ids += [self._tokens.pad_token_id] * (length - len(ids))
        mask += [0] * (length - len(mask))
        pixels = [self._pixels(int(picture)) for picture in self._tokens.pictures(row)]
        return torch.tensor(ids[:-1]), torch.tensor(ids[1:]), torch.tensor(mask[1:]), torch.stack(pixels)

    def _pixels(self, picture: int) -> torch.Tensor:
        from PIL import Image

        image: Image.Image = Image.open(io.BytesIO(self._pictures.bytes(picture)))
        if image.mode in ("RGBA", "LA"):
            image = image.convert("RGB")
        values: torch.Tensor = self._processor(images=image, return_tensors="pt")["pixel_values"]
        return values  # (1, 3, side, side)


def loader(rows: PaddedRows, batch_size: int, *, workers: int, pin_memory: bool = False) -> DataLoader[Batch]:
    """Batches in the order of `rows`; the original shuffles, which costs nothing."""
    return DataLoader(rows, batch_size=batch_size, num_workers=workers, pin_memory=pin_memory, drop_last=True)


class Reference(nn.Module):
    """The original's forward pass, on the weights of a LLaVA directory.

    `B` rows, `T` tokens, `N` pictures of each, `P` patches, `D` width, `H` heads that share `K` keys and values.
    """

    def __init__(self, model: Any) -> None:
        """`model`: a LlavaForConditionalGeneration whose features are the tower's last hidden state."""
        super().__init__()
        config = model.config
        if config.vision_feature_layer != -1:
            raise ValueError(f"the original reads the tower's last layer, not {config.vision_feature_layer}")
        self.model = model
        self.image_token_id = int(config.image_token_id)
        self.patches = int(config.image_seq_length)
        text = config.text_config
        self.heads, self.key_value_heads = text.num_attention_heads, text.num_key_value_heads

    def train(self, mode: bool = True) -> Reference:
        """Training mode, the tower excepted: the original leaves it in inference mode after loading."""
        super().train(mode)
        self.model.model.vision_tower.eval()
        return self

    def loss(self, batch: Batch) -> torch.Tensor:
        """The mean over the tokens that the mask keeps."""
        ids, targets, mask, pixels = batch
        logits = self(ids, pixels)
        losses = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        return (losses.view(mask.shape) * mask).sum() / mask.sum()

    def forward(self, ids: torch.Tensor, pixels: torch.Tensor | None = None) -> torch.Tensor:
        """Logits (B, T, vocabulary); `pixels` (B, N, 1, 3, side, side)."""
        llm = self.model.model.language_model
        hidden_states = llm.embed_tokens(ids)  # (B, T, D)
        if pixels is not None:
            hidden_states = self.splice(ids, hidden_states, self.features(pixels.squeeze(2)))
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        cos, sin = (table[:, None] for table in llm.rotary_emb(hidden_states.float(), positions))  # (1, 1, T, d)
        for layer in llm.layers:
            hidden_states = self._layer(layer, hidden_states, cos, sin)
        logits: torch.Tensor = self.model.lm_head(llm.norm(hidden_states))
        return logits

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (B, N, 3, side, side) → the tower's last hidden states (B, N, P, V), no class token."""
        tower = self.model.model.vision_tower
        with torch.no_grad():
            seen = [tower(pixel_values=each).last_hidden_state[:, 1:] for each in pixels.unbind(1)]
        return torch.stack(seen, dim=1)

    def splice(self, ids: torch.Tensor, hidden_states: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """(B, T, D): projected features where a run of P image tokens stands, row by row."""
        windows = ids.unfold(1, self.patches, 1)  # (B, T - P + 1, P)
        starts = (windows == self.image_token_id).all(dim=2)
        projector = self.model.model.multi_modal_projector.linear_1
        projected = projector(features)  # (B, N, P, D)
        rows = []
        for i in range(len(ids)):
            row = hidden_states[i]
            for number, place in enumerate(starts[i].nonzero(as_tuple=True)[0]):
                start = place.item()
                if number < projected.shape[1]:
                    row = torch.cat((row[:start], projected[i][number], row[start + self.patches :]), dim=0)
            rows.append(row)
        return torch.stack(rows)

    def _layer(self, layer: Any, residual: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        hidden_states = self._attend(layer.self_attn, layer.input_layernorm(residual), cos, sin)
        hidden_states += residual
        summed: torch.Tensor = hidden_states + layer.mlp(layer.post_attention_layernorm(hidden_states))
        return summed

    def _attend(self, attention: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        rows, length, _ = x.shape
        query = attention.q_proj(x).view(rows, length, self.heads, -1).transpose(1, 2)  # (B, H, T, d)
        key = attention.k_proj(x).view(rows, length, self.key_value_heads, -1).transpose(1, 2)
        value = attention.v_proj(x).view(rows, length, self.key_value_heads, -1).transpose(1, 2)
        repeats = self.heads // self.key_value_heads
        query, key = _rotated(query, cos, sin), _rotated(key, cos, sin)
        key, value = (each.repeat_interleave(repeats, dim=1) for each in (key, value))
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        output: torch.Tensor = attention.o_proj(mixed.transpose(1, 2).reshape(rows, length, -1))
        return output


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def autocast(device: str) -> AbstractContextManager[Any]:
    """The original's dtype policy: bf16 autocast on a GPU, float32 on a CPU."""
    return torch.autocast("cuda", dtype=torch.bfloat16) if device.startswith("cuda") else nullcontext()


def make_optimizer(reference: Reference, learning_rate: float) -> torch.optim.AdamW:
    """AdamW with torch's defaults over what is trained."""
    return torch.optim.AdamW([p for p in reference.parameters() if p.requires_grad], lr=learning_rate)


def train_steps(
    reference: Reference,
    batches: Iterator[Batch],
    optimizer: torch.optim.Optimizer,
    device: str,
    phase: Callable[[str], AbstractContextManager[Any]] = lambda name: nullcontext(),
) -> int:
    """A step for each batch; returns the rows. `phase(name)` is entered around forward, backward and optimizer."""
    rows = 0
    for batch in batches:
        ids, targets, mask, pixels = (tensor.to(device) for tensor in batch)
        with phase("forward"), autocast(device):
            loss = reference.loss((ids, targets, mask, pixels))
        with phase("backward"):
            loss.backward()
        with phase("optimizer"):
            torch.nn.utils.clip_grad_norm_(reference.parameters(), MAX_GRAD_NORM)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        rows += len(ids)
    return rows

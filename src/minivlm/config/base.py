"""The section of the base stage: tokenizer, vision tower and language model, each made here or brought along."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from minivlm.config.section import (
    MADE_HERE,
    MOST,
    Count,
    Fraction,
    HubFile,
    Layers,
    LocalFile,
    Name,
    Origin,
    Positive,
    Repository,
    Revision,
    Scalar,
    Section,
    Sha256,
    Side,
    Width,
)
from minivlm.config.training import Optimization


class Pretrained(Section):
    """A model directory that exists already: in a hub's repository, or in a folder of yours."""

    repo: Repository | None = Field(default=None, description="hub: owner/name of the repository")
    revision: Revision | None = Field(default=None, description="hub: commit of the repository, 40 hex digits")
    files: dict[str, HubFile] = Field(default={}, description="hub: path in the repository → size and sha256")
    modelscope: Repository | None = Field(
        default=None, description="hub: owner/name on ModelScope, where that differs"
    )
    path: Name | None = Field(default=None, description="local: folder, absolute or from the repository root")
    sha256: Sha256 | None = Field(default=None, description="local: sha256 of the folder's names and contents")
    config: dict[str, Scalar] = Field(
        default={},
        description="sizes of a tower or language model, known before it is fetched; what a MiniMind "
        "checkpoint's shapes do not say",
    )


class PretrainedLLM(Pretrained):
    """A language model that exists already: a model directory, or a checkpoint of MiniMind's own."""

    checkpoint: Name | None = Field(
        default=None, description="a MiniMind .pth file of the repository or folder, instead of a model directory"
    )


class TextFile(LocalFile):
    """JSON lines of `text` or of `conversations`, plain or gzipped."""

    limit: Count = Field(default=0, description="lines taken, 0 = all")


class Tokenizer(Section):
    """The byte-level BPE tokenizer, or one that exists."""

    vocabulary: Annotated[int, Field(ge=300, le=10_000_000)] = Field(description="tokens, special ones included")
    min_frequency: Positive = Field(description="a merge must occur this often")
    # The first merge, of two bytes, is made whatever the trainer is told.
    longest_token: Annotated[int, Field(ge=2, le=MOST)] = Field(
        description="bytes of a token, at most; a Chinese character has three"
    )
    pretrained: Pretrained | None = Field(
        default=None, description="where the tokenizer is, if it does not lie beside the language model"
    )


class VisionTower(Optimization):
    """A small CLIP, trained on the picture–caption pairs; or any CLIP or SigLIP vision model."""

    source: Origin | None = Field(default=None, description="as base.source, which holds where this is absent")
    pretrained: Pretrained | None = Field(default=None, description="where hub or local find the tower")
    image_size: Side = Field(description="side that pictures are resized to, pixels")
    patch_size: Side = Field(description="side of a patch, pixels")
    hidden_size: Width = Field(description="width of both towers")
    layers: Layers = Field(description="layers of the picture tower")
    text_layers: Layers = Field(description="layers of the text tower")
    heads: Layers = Field(description="attention heads")
    intermediate_size: Width = Field(description="width of the feed-forward part")
    projection_size: Width = Field(description="width of the shared contrastive space")
    batch_size: Positive = Field(description="pairs in a step")
    phrases: Count = Field(description="phrases of captions to predict, the commonest")
    phrase_weight: Annotated[float, Field(ge=0)] = Field(description="weight of their loss beside the contrast")
    grayscale: Fraction = Field(description="share of the pictures that lose their colours in training")


class BaseLLM(Optimization):
    """A Llama, trained on text tasks in which the answer depends on the prompt, and on texts; or any causal LM."""

    source: Origin | None = Field(default=None, description="as base.source, which holds where this is absent")
    pretrained: PretrainedLLM | None = Field(default=None, description="where hub or local find the model")
    text_tasks: bool = Field(default=True, description="train on text tasks made of the rows' conversations")
    text_length: Positive | None = Field(
        default=None, description="tokens of a packed row of base.texts; max_position_embeddings if absent"
    )

    hidden_size: Width = Field(description="width")
    layers: Layers = Field(description="layers")
    heads: Layers = Field(description="query heads")
    key_value_heads: Layers = Field(description="key and value heads")
    intermediate_size: Width = Field(description="width of the feed-forward part")
    max_position_embeddings: Positive = Field(description="longest sequence")
    rope_theta: Annotated[float, Field(gt=0)] = Field(description="base of the rotary embedding")
    batch_tokens: Positive = Field(description="tokens in a step, padding included")


class Base(Section):
    """Tokenizer, vision tower and language model that both stages start from."""

    source: Origin = Field(
        description="of tower and language model: train (from scratch), hub, local, or random (not trained)"
    )
    texts: list[TextFile] = Field(default=[], description="texts that tokenizer and language model learn from")
    vision_feature_layer: int = Field(
        default=-1, description="hidden state of the tower that is read: -1 the last layer's output, -2 one before"
    )
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = Field(
        description="share of the pictures that tower and language model are not trained on"
    )
    tokenizer: Tokenizer
    vision_tower: VisionTower
    llm: BaseLLM

    @property
    def tower_source(self) -> Origin:
        """Where the vision tower comes from."""
        return self.vision_tower.source or self.source

    @property
    def llm_source(self) -> Origin:
        """Where the language model, and with it the tokenizer, come from."""
        return self.llm.source or self.source

    @property
    def image_tokens(self) -> int | None:
        """Tokens of a picture, its patches; None where only the tower that is brought knows."""
        tower = self.vision_tower
        side, patch = tower.image_size, tower.patch_size
        if self.tower_source not in MADE_HERE:
            side, patch = (_stated(tower.pretrained, name) or 0 for name in ("image_size", "patch_size"))
        return (side // patch) ** 2 if side and patch else None

    @property
    def positions(self) -> int | None:
        """The language model's longest sequence; None where only the one that is brought knows."""
        if self.llm_source in MADE_HERE:
            return self.llm.max_position_embeddings
        return _stated(self.llm.pretrained, "max_position_embeddings")

    @property
    def decoder_layers(self) -> int | None:
        """Layers of the language model; None where only the one that is brought knows."""
        if self.llm_source in MADE_HERE:
            return self.llm.layers
        return _stated(self.llm.pretrained, "num_hidden_layers")


def _stated(place: Pretrained | None, name: str) -> int | None:
    """A size that params.yaml states of a model that is brought."""
    value = place.config.get(name) if place else None
    return value if isinstance(value, int) and value > 0 else None

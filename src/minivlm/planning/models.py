"""The models of a plan: configurations as far as they are known, and weights, counted without making any.

A configuration comes from artifacts/base where that is of the present parameters. Else, of a part trained here or
random, from the parameters; of one brought along, from a config.json on this machine (local folders, the hub's
cache), or from the sizes that params.yaml states beside its repository (`pretrained.config`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minivlm.config import FreezePolicy, Params
from minivlm.config.base import Pretrained, PretrainedLLM
from minivlm.errors import UserError
from minivlm.model.minimind.configuration import check_ids, given_fields
from minivlm.planning.figures import Figure, unknown
from minivlm.planning.present import Present
from minivlm.planning.rows import cached

_VISION, _TEXT = "vision_config", "text_config"  # the halves of a configuration that joins both
_FEED_FORWARD_MULTIPLE = 64  # MiniMind's feed-forward width: 8/3 of the model's, rounded up to a multiple of this


@dataclass(frozen=True)
class FoundConfig:
    """A transformers configuration and where it comes from; without one, why there is none."""

    config: Any
    source: str


def tower_config(params: Params, present: Present) -> FoundConfig:
    """The vision tower's."""
    section = params.base.vision_tower
    if present.has("base"):
        return _of_directory(present.paths.base_part("vision_tower"), _VISION, present)
    if params.base.tower_source in ("train", "random"):
        from transformers import CLIPVisionConfig

        sizes = {
            "image_size": section.image_size,
            "patch_size": section.patch_size,
            "hidden_size": section.hidden_size,
            "num_hidden_layers": section.layers,
            "num_attention_heads": section.heads,
            "intermediate_size": section.intermediate_size,
        }
        return FoundConfig(CLIPVisionConfig(**sizes), "params: base.vision_tower")
    return _brought("base.vision_tower", params.base.tower_source, section.pretrained, present, _VISION)


def llm_config(params: Params, present: Present) -> FoundConfig:
    """The language model's; of one to be trained, with as many tokens as the tokenizer may get at most."""
    section = params.base.llm
    if present.has("base"):
        return _of_directory(present.paths.base_part("llm"), _TEXT, present)
    if params.base.llm_source in ("train", "random"):
        from transformers import LlamaConfig

        sizes = {
            "vocab_size": params.base.tokenizer.vocabulary,
            "hidden_size": section.hidden_size,
            "num_hidden_layers": section.layers,
            "num_attention_heads": section.heads,
            "num_key_value_heads": section.key_value_heads,
            "intermediate_size": section.intermediate_size,
            "max_position_embeddings": section.max_position_embeddings,
            "rope_theta": section.rope_theta,
            "tie_word_embeddings": True,
        }
        return FoundConfig(LlamaConfig(**sizes), "params: base.llm")
    return _brought("base.llm", params.base.llm_source, section.pretrained, present, _TEXT)


def vocabulary(params: Params, present: Present) -> Figure:
    """Tokens of the language model; of one to be trained at most, because a small text holds fewer merges."""
    found = llm_config(params, present)
    if found.config is None:
        return unknown(found.source)
    known = present.has("base") or params.base.llm_source != "train"
    return Figure(int(found.config.vocab_size), found.source, exact=known)


def image_tokens(found: FoundConfig) -> Figure:
    """Tokens of a picture: its patches."""
    if found.config is None:
        return unknown(found.source)
    return Figure((found.config.image_size // found.config.patch_size) ** 2, found.source)


@dataclass(frozen=True)
class Weights:
    """Numbers of weights of the assembled model; `trained` by parameter name."""

    vision_tower: int
    language_model: int
    projector: int
    identity: int
    trained: Mapping[str, int]

    @property
    def saved(self) -> int:
        """All that artifacts/<stage>/model holds."""
        return self.vision_tower + self.language_model + self.projector + self.identity

    def fields(self) -> dict[str, Any]:
        """Their entries in a plan."""
        return {
            "vision_tower": self.vision_tower,
            "language_model": self.language_model,
            "projector": self.projector,
            "projector_identity": self.identity,
            "saved": self.saved,
            "trained": sum(self.trained.values()),
        }


def llava_config(tower: Any, llm: Any, layer: int, image_token_id: int | None = None) -> Any:
    """The configuration of the LLaVA model of a tower and a language model; without an id the last token stands
    for pictures."""
    from transformers import LlavaConfig

    return LlavaConfig(
        vision_config=tower,
        text_config=llm,
        image_token_index=llm.vocab_size - 1 if image_token_id is None else image_token_id,
        projector_hidden_act="linear",
        vision_feature_layer=layer,
        multimodal_projector_bias=False,
    )


def weights(tower: Any, llm: Any, layer: int, policy: FreezePolicy) -> Weights:
    """Count the weights of the LLaVA model of two configurations, and those that a freeze policy trains."""
    import torch
    from transformers import LlavaForConditionalGeneration

    from minivlm.training.optimizer import freeze

    with torch.device("meta"):
        model = LlavaForConditionalGeneration(llava_config(tower, llm, layer))
    model.tie_weights()
    parts = model.model
    projector: Any = parts.multi_modal_projector
    head = 0 if llm.tie_word_embeddings else model.lm_head.weight.numel()
    return Weights(
        vision_tower=_count(parts.vision_tower),
        language_model=_count(parts.language_model) + head,
        projector=_count(projector.linear_1),
        identity=_count(projector.linear_2),
        trained=freeze(model, policy),
    )


def _count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _brought(key: str, source: str, pretrained: Pretrained | None, present: Present, part: str) -> FoundConfig:
    """The configuration of a part from a hub or a local folder, without any network."""
    if pretrained is None:
        return FoundConfig(None, f"{key}.pretrained is missing")
    if source == "local":
        folder = present.paths.root / (pretrained.path or "")
        place = folder / "config.json" if pretrained.path else None
    else:
        place = cached(pretrained.repo, pretrained.revision, "config.json", "model")
    if place is not None and place.is_file() and not _is_checkpoint(pretrained):
        return _of_directory(place.parent, part, present)
    stated = _stated(pretrained, key)
    if stated is not None:
        return FoundConfig(stated, f"params: {key}.pretrained.config")
    name = pretrained.path or pretrained.repo
    return FoundConfig(
        None, f"{name} is not on this machine, and {key}.pretrained.config does not state its sizes"
    )


def _is_checkpoint(pretrained: Pretrained) -> bool:
    """Whether it is a file of MiniMind's own, not a model directory."""
    return isinstance(pretrained, PretrainedLLM) and pretrained.checkpoint is not None


def _stated(pretrained: Pretrained, key: str) -> Any:
    """A configuration from the sizes that params.yaml states; None when it does not state enough."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig, LlamaConfig

    values: dict[str, Any] = dict(pretrained.config)
    if not _is_checkpoint(pretrained):
        if values.get("hidden_size") is None or "model_type" not in values:
            return None
        try:
            return AutoConfig.for_model(str(values.pop("model_type")), **values)
        except (ValueError, StrictDataclassError) as error:
            raise UserError(f"{key}.pretrained.config: {' '.join(str(error).split())}") from None
    where = f"{key}.pretrained.config"
    values = given_fields(where, values)
    needed = {"hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size"}
    if not needed <= values.keys():
        return None
    check_ids(where, values, values["vocab_size"])
    multiple = _FEED_FORWARD_MULTIPLE
    values.setdefault("intermediate_size", -(-int(values["hidden_size"] * 8 / 3) // multiple) * multiple)
    known = LlamaConfig().to_dict().keys() | {"rope_theta"}
    sizes: dict[str, Any] = {name: value for name, value in values.items() if name in known}
    try:
        return LlamaConfig(**sizes | {"tie_word_embeddings": True})
    except (ValueError, StrictDataclassError) as error:
        raise UserError(f"{where}: {' '.join(str(error).split())}") from None


def _of_directory(directory: Path, part: str, present: Present) -> FoundConfig:
    """The configuration in a model directory: its own, or `part` of one that joins a picture and a text model."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    name = f"{present.name(directory)}/config.json"
    if not (directory / "config.json").is_file():
        return FoundConfig(None, f"no {name}")
    try:
        config = AutoConfig.from_pretrained(directory)
    except (OSError, ValueError, StrictDataclassError) as error:
        return FoundConfig(None, f"{name}: {' '.join(str(error).split())[:200]}")
    return FoundConfig(getattr(config, part, config), name)

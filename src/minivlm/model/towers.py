"""Vision towers by somebody else -> the CLIPVisionModel or SiglipVisionModel inside.

What LLaVA does not read is left out by name: text towers, pooling heads, projections into the contrastive space.
A SigLIP2 of variable resolution (NaFlex, transformers' `siglip2`) takes flattened patches; at its native square it
computes exactly what a SiglipVisionModel does, and becomes one.

`D` width, `C` colours, `p` side of a patch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minivlm.errors import UserError
from minivlm.files import read_json
from minivlm.model.checkpoint import load_strictly

# Keys of older files that are computed anew, and the contrastive projection of CLIPVisionModelWithProjection.
ALLOWED = ("*embeddings.position_ids", "visual_projection.weight")
_HEAD = "head."  # SigLIP's pooling head


def read_tower(source: Path) -> Any:
    """The tower in `source`, a vision model's directory or a full model's, float32; UserError for other types."""
    path = source / "config.json"
    try:
        kind = str(read_json(path).get("model_type"))
    except FileNotFoundError:
        raise UserError(f"{path}: not found; a vision tower is a transformers directory") from None
    except (ValueError, AttributeError, RecursionError):
        raise UserError(f"{path}: not a model's configuration") from None
    if kind not in _READERS:
        kind = kind if kind.isprintable() and len(kind) < 80 else ascii(kind[:80])
        raise UserError(f"{path}: {kind} is no vision tower that is known here; known are {', '.join(_READERS)}")
    tower = _READERS[kind](source)
    config = tower.config
    if config.image_size % config.patch_size:
        raise UserError(f"{path}: image_size {config.image_size} is no multiple of {config.patch_size}")
    return tower


def _clip(source: Path) -> Any:
    from transformers import CLIPVisionModel

    return load_strictly(CLIPVisionModel, source, ALLOWED, bin_weights=True)


def _full_clip(source: Path) -> Any:
    from transformers import CLIPModel

    return load_strictly(CLIPModel, source, ALLOWED, bin_weights=True).vision_model


def _siglip(source: Path) -> Any:
    from transformers import SiglipVisionModel

    return _headless(load_strictly(SiglipVisionModel, source, ALLOWED, bin_weights=True))


def _full_siglip(source: Path) -> Any:
    from transformers import SiglipModel

    return _headless(load_strictly(SiglipModel, source, ALLOWED, bin_weights=True).vision_model)


def _naflex(source: Path) -> Any:
    from transformers import Siglip2VisionModel

    return at_native_square(load_strictly(Siglip2VisionModel, source, ALLOWED, bin_weights=True))


def _full_naflex(source: Path) -> Any:
    from transformers import Siglip2Model

    return at_native_square(load_strictly(Siglip2Model, source, ALLOWED, bin_weights=True).vision_model)


_READERS: dict[str, Callable[[Path], Any]] = {
    "clip_vision_model": _clip,
    "clip": _full_clip,
    "siglip_vision_model": _siglip,
    "siglip": _full_siglip,
    "siglip2_vision_model": _naflex,
    "siglip2": _full_naflex,
}


def _headless(tower: Any) -> Any:
    """The same SiglipVisionModel without its pooling head."""
    return _siglip_of(tower.config, tower.config.image_size, tower.state_dict())


def at_native_square(tower: Any) -> Any:
    """A Siglip2VisionModel as the SiglipVisionModel of the square that its position embeddings are for."""
    config = tower.config
    side = math.isqrt(config.num_patches)
    if side * side != config.num_patches:
        raise UserError(f"a SigLIP2 of {config.num_patches} patches has no square")
    state = tower.state_dict()
    weight = state["embeddings.patch_embedding.weight"]  # (D, p * p * C), colours innermost
    patch = config.patch_size
    square = weight.view(-1, patch, patch, config.num_channels)
    state["embeddings.patch_embedding.weight"] = square.permute(0, 3, 1, 2).contiguous()  # (D, C, p, p)
    return _siglip_of(config, side * patch, state)


def _siglip_of(config: Any, image_size: int, state: dict[str, Any]) -> Any:
    from transformers import SiglipVisionConfig, SiglipVisionModel

    names = (
        *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_channels"),
        *("patch_size", "hidden_act", "layer_norm_eps", "attention_dropout"),
    )
    values = {name: getattr(config, name) for name in names}
    tower = SiglipVisionModel(SiglipVisionConfig(**values, image_size=image_size, vision_use_head=False))
    tower.load_state_dict({key: value for key, value in state.items() if not key.startswith(_HEAD)})
    return tower.eval()

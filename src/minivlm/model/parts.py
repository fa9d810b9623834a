"""Vision towers by their configuration: the kinds that LLaVA can hold, CLIP's and SigLIP's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minivlm.errors import UserError
from minivlm.files import read_json
from minivlm.model.checkpoint import load_strictly

CLIP, SIGLIP = "clip_vision_model", "siglip_vision_model"  # transformers' model_type


def load_tower(directory: Path) -> Any:
    """The CLIPVisionModel or SiglipVisionModel of a directory, float32; UserError for any other."""
    from transformers import CLIPVisionModel, SiglipVisionModel

    try:
        kind = read_json(directory / "config.json").get("model_type")
    except FileNotFoundError:
        raise UserError(f"{directory}: no model there; run the stage that makes it") from None
    except (ValueError, AttributeError):
        raise UserError(f"{directory / 'config.json'}: not a model's configuration") from None
    classes = {CLIP: CLIPVisionModel, SIGLIP: SiglipVisionModel}
    if kind not in classes:
        raise UserError(f"{directory}: a vision tower is a {' or a '.join(classes)}, not a {kind}")
    return load_strictly(classes[kind], directory)


def has_class_token(config: Any) -> bool:
    """Whether the tower of a vision configuration puts a class token before its patches."""
    return bool(config.model_type == CLIP)

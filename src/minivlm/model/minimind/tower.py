"""The vision tower of the original: a CLIP directory → transformers' CLIPVisionModel, and its picture
preparation."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.errors import UserError
from minivlm.files import read_json
from minivlm.model.checkpoint import load_strictly
from minivlm.model.minimind.state import Checkpoint

if TYPE_CHECKING:
    from transformers import CLIPVisionModel

# What a full CLIPModel holds beside its vision half, and buffers that older transformers saved.
_BESIDE = (
    *("text_model.*", "text_projection.*", "visual_projection.*", "logit_scale"),
    *("embeddings.position_ids", "*.embeddings.position_ids"),
)
_CLIP = ("clip", "clip_vision_model")


def read_tower(directory: Path) -> CLIPVisionModel:
    """The vision half of a CLIPVisionModel's or CLIPModel's directory in float32.

    UserError for another kind of model, and for weights that are missing, misshaped or unknown: the text half, the
    two projections, the temperature and `position_ids` alone may stand there besides.
    """
    from transformers import CLIPVisionModel

    kind = _read(directory / "config.json").get("model_type")
    if kind not in _CLIP:
        raise UserError(f"{directory}: a {kind or 'model without a type'}; the original's vision tower is a CLIP")
    tower: CLIPVisionModel = load_strictly(CLIPVisionModel, directory, _BESIDE, bin_weights=True)
    if tower.config.image_size % tower.config.patch_size:
        raise UserError(
            f"{directory}: pictures of {tower.config.image_size} are no multiple of {tower.config.patch_size}"
        )
    tower.config.architectures = ["CLIPVisionModel"]  # also when it came out of a CLIPModel
    return tower


def check_copy(checkpoint: Checkpoint, tower: CLIPVisionModel) -> None:
    """UserError unless the copy of the tower that some trainers saved is the given one, up to half precision."""
    import torch

    own = tower.state_dict()
    for key, tensor in checkpoint.tower.items():
        if any(fnmatchcase(key, pattern) for pattern in _BESIDE):
            continue
        name = key.removeprefix("vision_model.")
        if name not in own:
            raise UserError(f"{checkpoint.path}: unknown: vision_encoder.{key}")
        if tensor.shape != own[name].shape or not torch.allclose(tensor, own[name], rtol=2e-3, atol=1e-6):
            raise UserError(
                f"{checkpoint.path}: vision_encoder.{key} is not that of the given vision tower: another one "
                "was trained with"
            )


def picture_values(directory: Path, size: int) -> dict[str, Any]:
    """The values of a CLIP directory's picture preparation, spelt out; `size`: pixels of the tower's side.

    Values that an old preprocessor_config.json leaves out are CLIP's. UserError when the file is missing, or when
    what it makes is not what the tower takes.
    """
    from transformers import CLIPImageProcessorPil

    path = directory / "preprocessor_config.json"
    values = _read(path)
    for name in ("image_processor_type", "feature_extractor_type", "processor_class"):
        values.pop(name, None)
    try:
        prepared = CLIPImageProcessorPil(**values).to_dict()
    except (TypeError, ValueError, KeyError) as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from None
    crop = prepared.get("crop_size") or {}
    sides = (crop.get("height"), crop.get("width"))
    if not prepared.get("do_center_crop") or sides != (size, size):
        raise UserError(
            f"{path}: cuts pictures to {sides[0]} x {sides[1]}, the vision tower takes {size} x {size}"
        )
    return {name: value for name, value in prepared.items() if name != "image_processor_type"}


def _read(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; give the directory of a CLIP vision tower") from None
    except NotADirectoryError:
        raise UserError(f"{path.parent}: not a directory") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a JSON object")
    return content

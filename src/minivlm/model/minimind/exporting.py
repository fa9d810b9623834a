"""A LLaVA directory → the original's state dict in half precision, as its trainer saves it.

What the original's code cannot hold is refused by name, and so is a value that half precision would turn into
infinity: nothing is lost in silence.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.errors import UserError
from minivlm.files import atomic_path
from minivlm.model.checkpoint import check_sizes, is_one_linear_map, load_strictly
from minivlm.model.fingerprint import check_files
from minivlm.model.minimind.state import original_names

if TYPE_CHECKING:
    import torch

_LARGEST = 65504.0  # of float16


def export_checkpoint(directory: Path, path: Path) -> dict[str, tuple[int, ...]]:
    """Write the `.pth` file of a LLaVA directory; its keys and shapes, in order.

    The vision tower is not in it, as the original does not save it. UserError names all that does not fit.
    """
    import torch

    model = read_exportable(directory)
    configuration(directory)  # what it lacks is said before anything is written
    llm = model.model.language_model.state_dict()
    first = model.model.multi_modal_projector.linear_1
    state = {key: llm[name] for key, name in original_names(llm)}
    state["lm_head.weight"] = llm["embed_tokens.weight"]
    state["vision_proj.vision_proj.0.weight"] = first.weight.detach()
    if first.bias is not None:
        state["vision_proj.vision_proj.0.bias"] = first.bias.detach()
    _check_range(directory, state)
    halves = {key: tensor.to(torch.float16).clone() for key, tensor in state.items()}
    if path.is_dir():
        raise UserError(f"{path}: a folder; give the name of a .pth file")
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        # To a stream: given a path, torch would write that path's temporary name into the file.
        torch.save(halves, stream)
    return {key: tuple(tensor.shape) for key, tensor in halves.items()}


def read_exportable(directory: Path) -> Any:
    """The directory's model in float32; UserError that names everything the original cannot hold."""
    from transformers import AutoConfig, LlavaForConditionalGeneration

    if not (directory / "config.json").is_file():
        raise UserError(f"{directory}: no model there")
    check_files(directory)
    check_sizes(directory / "config.json")
    try:
        config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # as in `load_strictly`
        raise UserError(f"{directory}: {' '.join(str(error).split())[:300]}") from None
    faults = _faults(config)
    if faults:
        raise UserError(f"{directory}: the original cannot hold it: {'; '.join(faults)}")
    model = load_strictly(LlavaForConditionalGeneration, directory)
    if not is_one_linear_map(model):
        raise UserError(f"{directory}: the original cannot hold it: its projector is not one linear map")
    return model


def _faults(config: Any) -> list[str]:
    """What of a configuration has no place in the original's code."""
    if config.model_type != "llava":
        return [f"a {config.model_type}, not a LLaVA"]
    text, vision = config.get_text_config(), config.vision_config
    faults = []
    if text.model_type != "llama":
        faults.append(f"its language model is a {text.model_type}, not a Llama")
    else:
        faults += _llama_faults(text, getattr(config, "tie_word_embeddings", True))
    if vision.model_type not in ("clip_vision_model", "clip"):
        faults.append(f"its vision tower is a {vision.model_type}, not a CLIP with a class token")
    if config.vision_feature_select_strategy != "default":
        faults.append(f"image features {config.vision_feature_select_strategy!r}, not 'default' (no class token)")
    layers = getattr(vision, "num_hidden_layers", None)
    if config.vision_feature_layer not in (-1, layers):
        faults.append(f"image features of layer {config.vision_feature_layer}, not of the last (-1)")
    if config.projector_hidden_act != "linear":
        faults.append(f"a projector with the activation {config.projector_hidden_act!r}, not one linear map")
    return faults


def _llama_faults(text: Any, tied: bool) -> list[str]:
    faults = []
    if not (text.tie_word_embeddings and tied):
        faults.append("input and output embeddings are not tied")
    if getattr(text, "attention_bias", False) or getattr(text, "mlp_bias", False):
        faults.append("its language model has biases")
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    if size * text.num_attention_heads != text.hidden_size:
        faults.append(f"{text.num_attention_heads} heads of {size} are not the width {text.hidden_size}")
    rope = (text.rope_parameters or {}).get("rope_type", "default")
    if rope != "default":
        faults.append(f"rotary positions of type {rope!r}")
    return faults


def _check_range(directory: Path, state: dict[str, torch.Tensor]) -> None:
    import torch

    for key, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{directory}: {key} holds what is no finite number")
        largest = float(tensor.abs().max())
        if largest > _LARGEST:
            raise UserError(
                f"{directory}: {key} holds {largest:g}, beyond half precision (65,504), in which the "
                "original saves"
            )


def configuration(directory: Path) -> dict[str, Any]:
    """The original's configuration fields of a directory: what `import-checkpoint --config` takes."""
    from minivlm.files import read_json

    config = read_json(directory / "config.json")
    names = (
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "vocab_size", "rms_norm_eps", "max_position_embeddings", "hidden_act", "bos_token_id", "eos_token_id",
    )  # fmt: skip
    try:
        text = config["text_config"]
        fields = {name: text[name] for name in names}
        fields["rope_theta"] = text["rope_parameters"]["rope_theta"]
        fields["image_token_id"] = config["image_token_index"]
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{directory / 'config.json'}: does not say {error}, which the original has to know"
        ) from None
    fields["use_moe"] = False
    return fields

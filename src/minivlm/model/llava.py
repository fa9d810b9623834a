"""The vision-language model: transformers' LlavaForConditionalGeneration, put together from three directories.

The projector is one linear map: transformers' class has two with an activation between, so the activation is
`linear` and the second map an identity, frozen. Everything that loads LLaVA then loads this model without code.

`P` patches of a picture, `V` width of the vision tower, `D` width of the language model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.errors import UserError
from minivlm.files import read_json
from minivlm.model.checkpoint import load_strictly
from minivlm.model.parts import has_class_token, load_tower
from minivlm.token_ids import check_numbers

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import LlavaForConditionalGeneration

IMAGE_TOKEN = "<image>"


def assemble(base: Path, *, seed: int, projector_bias: bool = False) -> LlavaForConditionalGeneration:
    """A LLaVA from `base`: tokenizer/, vision_tower/, llm/ and layout.json with `vision_feature_layer`.

    Tower and language model are bitwise the saved ones; the projector is drawn from `seed`. The result is float32,
    on the CPU. UserError when a part is missing or does not fit.
    """
    from transformers import AutoModelForCausalLM

    tower = load_tower(base / "vision_tower")
    llm = load_strictly(AutoModelForCausalLM, base / "llm")
    return put_together(
        tower,
        llm,
        base,
        image_token_id=_image_token_id(base / "tokenizer", llm.config.vocab_size),
        vision_feature_layer=_feature_layer(base, tower.config.num_hidden_layers),
        projector_bias=projector_bias,
        seed=seed,
    )


def put_together(
    tower: Any,
    llm: Any,
    name: Path,
    *,
    image_token_id: int,
    vision_feature_layer: int,
    projector_bias: bool,
    seed: int,
    projection: Mapping[str, torch.Tensor] | None = None,
) -> LlavaForConditionalGeneration:
    """A LLaVA of these very modules, in inference mode.

    `projection`: weight (D, V), and bias (D,), of the projector's one map; without, it is drawn from `seed`.
    UserError, about `name`, when LLaVA cannot hold them.
    """
    import torch
    from transformers import GenerationConfig, LlavaConfig, LlavaForConditionalGeneration

    config = LlavaConfig(
        vision_config=tower.config,
        text_config=llm.config,
        image_token_index=image_token_id,
        image_seq_length=(tower.config.image_size // tower.config.patch_size) ** 2,
        projector_hidden_act="linear",
        # "default" takes the class token off, which a SigLIP has not
        vision_feature_select_strategy="default" if has_class_token(tower.config) else "full",
        vision_feature_layer=vision_feature_layer,
        multimodal_projector_bias=projector_bias,
    )
    with torch.device("meta"):  # nothing is drawn that is replaced at once
        model = LlavaForConditionalGeneration(config)
    projector = type(model.model.multi_modal_projector)(config)
    if projection is None:
        initialize_projector(projector, tower, llm, vision_feature_layer, seed)
    else:
        projector.linear_1.load_state_dict(projection, strict=True)
        _make_identity(projector.linear_2)
    if type(model.model.language_model) is not type(llm.base_model):
        raise UserError(f"{name}: LLaVA cannot hold a {type(llm).__name__}")
    model.model.vision_tower = tower
    model.model.language_model = llm.base_model
    model.model.multi_modal_projector = projector
    model.lm_head = llm.get_output_embeddings()
    model.tie_weights()
    left = [key for key, tensor in model.state_dict().items() if tensor.is_meta]
    if left:
        raise UserError(f"{name}: no weights for {', '.join(left)}")
    text = llm.config
    model.generation_config = GenerationConfig(  # greedy, and it stops where the language model's turns end
        bos_token_id=text.bos_token_id, eos_token_id=text.eos_token_id, pad_token_id=text.pad_token_id
    )
    return model.eval()


def initialize_projector(
    projector: nn.Module, tower: nn.Module, llm: nn.Module, vision_feature_layer: int, seed: int
) -> None:
    """Draw the first linear map so that a picture's tokens are as long as a word's; make the second an identity.

    The length of the tower's outputs is that on eight smooth random pictures: near enough, and no data is needed.
    """
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(seed)
    config: Any = tower.config
    with torch.no_grad():
        coarse = torch.randn(8, 3, 4, 4, generator=generator)
        side = (config.image_size, config.image_size)
        pictures = nn.functional.interpolate(coarse, side, mode="bilinear")  # normalised: mean 0, about 1 wide
        features = tower_features(tower, pictures, vision_feature_layer).norm(dim=-1).mean()
        words = llm.get_input_embeddings().weight.norm(dim=-1).mean()  # type: ignore[operator]
        first: Any = projector.linear_1
        first.weight.normal_(generator=generator)
        first.weight.mul_(words / features / first.out_features**0.5)
        if first.bias is not None:
            first.bias.zero_()
        _make_identity(projector.linear_2)


def _make_identity(linear: Any) -> None:
    from torch import nn

    nn.init.eye_(linear.weight)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)


def tower_features(tower: Any, pixels: torch.Tensor, layer: int) -> torch.Tensor:
    """(N, 3, side, side) normalised → (N, P, V): what LLaVA calls hidden state `layer`, without a class token.

    As `hidden_states[layer]` of the tower's output, a CLIP's `[:, 1:]`, but layers above it are not computed.
    """
    layers = len(tower.encoder.layers)
    hidden_states = tower.embeddings(pixels)
    if hasattr(tower, "pre_layrnorm"):  # a CLIP
        hidden_states = tower.pre_layrnorm(hidden_states)
    for encoder_layer in tower.encoder.layers[: layer % (layers + 1)]:
        hidden_states = encoder_layer(hidden_states, attention_mask=None)
    return hidden_states[:, 1:] if has_class_token(tower.config) else hidden_states


def _feature_layer(base: Path, layers: int) -> int:
    """The layer of layout.json; UserError when the tower has no such layer."""
    layer = int(read_json(base / "layout.json")["vision_feature_layer"])
    if not -layers - 1 <= layer <= layers:
        raise UserError(f"{base}: base.vision_feature_layer {layer} is not in {-layers - 1} to {layers}")
    return layer


def _image_token_id(tokenizer: Path, vocabulary: int) -> int:
    from tokenizers import Tokenizer

    path = tokenizer / "tokenizer.json"
    if path.is_file():
        check_numbers(path.read_bytes(), str(path))
    try:
        image_token = Tokenizer.from_file(str(tokenizer / "tokenizer.json")).token_to_id(IMAGE_TOKEN)
    except Exception as error:  # the tokenizers library raises bare exceptions
        raise UserError(f"{tokenizer}: no tokenizer there: {error}") from error
    if image_token is None or image_token >= vocabulary:
        raise UserError(f"{tokenizer}: no token {IMAGE_TOKEN} that the language model knows")
    return int(image_token)

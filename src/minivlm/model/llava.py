"""The vision-language model: transformers' LlavaForConditionalGeneration, put together from three directories.

The projector is one linear map: transformers' class has two with an activation between, so the activation is
`linear` and the second map an identity, frozen. Everything that loads LLaVA then loads this model without code.
Loading is strict: a key that is missing, left over or of another shape is an error, never fresh random weights.

`P` patches of a picture, `V` width of the vision tower, `D` width of the language model.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.errors import UserError
from minivlm.files import read_json

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
    import torch
    from transformers import CLIPVisionModel, LlamaForCausalLM, LlavaConfig, LlavaForConditionalGeneration

    tower = load_strictly(CLIPVisionModel, base / "vision_tower")
    llm = load_strictly(LlamaForCausalLM, base / "llm")
    config = LlavaConfig(
        vision_config=tower.config,
        text_config=llm.config,
        image_token_index=_image_token_id(base / "tokenizer", llm.config.vocab_size),
        image_seq_length=(tower.config.image_size // tower.config.patch_size) ** 2,
        projector_hidden_act="linear",
        vision_feature_select_strategy="default",
        vision_feature_layer=read_json(base / "layout.json")["vision_feature_layer"],
        multimodal_projector_bias=projector_bias,
    )
    with torch.device("meta"):  # nothing is drawn that is replaced at once
        model = LlavaForConditionalGeneration(config)
    projector = type(model.model.multi_modal_projector)(config)
    initialize_projector(projector, tower, llm, config.vision_feature_layer, seed)
    model.model.vision_tower = tower
    model.model.language_model = llm.model
    model.model.multi_modal_projector = projector
    model.lm_head = llm.lm_head
    model.tie_weights()
    left = [name for name, tensor in model.state_dict().items() if tensor.is_meta]
    if left:
        raise UserError(f"{base}: no weights for {', '.join(left)}")
    model.generation_config = _generation_config(llm)
    return model.eval()


def load(directory: Path) -> LlavaForConditionalGeneration:
    """The model that `save` wrote, float32 on the CPU; UserError when a weight is missing or left over."""
    from transformers import LlavaForConditionalGeneration

    model = load_strictly(LlavaForConditionalGeneration, directory)
    if not is_one_linear_map(model.model.multi_modal_projector):
        raise UserError(f"{directory}: its projector is not one linear map, which training here takes it for")
    return model


def load_strictly(kind: Any, directory: Path) -> Any:
    """`kind.from_pretrained(directory)` in float32; UserError unless every key is accounted for."""
    import torch
    from safetensors import SafetensorError
    from transformers.utils import logging

    if not (directory / "config.json").is_file():
        raise UserError(f"{directory}: no model there; run the stage that makes it")
    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # what it would say about keys is said below, as an error
    try:
        model, keys = kind.from_pretrained(directory, dtype=torch.float32, output_loading_info=True)
    except (RuntimeError, ValueError, OSError, SafetensorError) as error:
        raise UserError(f"{directory}: {' '.join(str(error).split())}") from error
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()
    wrong = {name: sorted(map(str, found)) for name, found in keys.items() if found}
    if wrong:
        listed = "; ".join(f"{name.replace('_', ' ')}: {', '.join(found)}" for name, found in wrong.items())
        raise UserError(f"{directory}: its weights are not those of {kind.__name__}: {listed}")
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
        second: Any = projector.linear_2
        first.weight.normal_(generator=generator)
        first.weight.mul_(words / features / first.out_features**0.5)
        nn.init.eye_(second.weight)
        for linear in (first, second):
            if linear.bias is not None:
                linear.bias.zero_()


def is_one_linear_map(projector: Any) -> bool:
    """Whether activation and second map of a LLaVA projector change nothing."""
    import torch
    from torch import nn

    second = projector.linear_2
    identity = torch.equal(second.weight, torch.eye(second.out_features, dtype=second.weight.dtype))
    return isinstance(projector.act, nn.Identity) and identity and (second.bias is None or not second.bias.any())


def tower_features(tower: Any, pixels: torch.Tensor, layer: int) -> torch.Tensor:
    """(N, 3, side, side) normalised → (N, P, V): what LLaVA calls hidden state `layer`, without the class token.

    As `hidden_states[layer][:, 1:]` of the tower's output, but layers above it are not computed.
    """
    layers = len(tower.encoder.layers)
    hidden_states = tower.pre_layrnorm(tower.embeddings(pixels))
    for encoder_layer in tower.encoder.layers[: layer % (layers + 1)]:
        hidden_states = encoder_layer(hidden_states, attention_mask=None)
    return hidden_states[:, 1:]


def _image_token_id(tokenizer: Path, vocabulary: int) -> int:
    from tokenizers import Tokenizer

    try:
        image_token = Tokenizer.from_file(str(tokenizer / "tokenizer.json")).token_to_id(IMAGE_TOKEN)
    except Exception as error:  # the tokenizers library raises bare exceptions
        raise UserError(f"{tokenizer}: no tokenizer there: {error}") from error
    if image_token is None or image_token >= vocabulary:
        raise UserError(f"{tokenizer}: no token {IMAGE_TOKEN} that the language model knows")
    return int(image_token)


def _generation_config(llm: Any) -> Any:
    """Greedy by default; stops at the end-of-sequence token of the language model."""
    from transformers import GenerationConfig

    config = llm.config
    return GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )

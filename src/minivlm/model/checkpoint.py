"""Models to disk and back: plain transformers directories, loaded strictly.

A key that is missing, left over or of another shape is an error, never fresh random weights. What is saved depends
on the weights alone: the same ones give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.errors import UserError
from minivlm.files import atomic_directory, read_json
from minivlm.model.card import trained_card, write_card
from minivlm.model.fingerprint import write_fingerprint

if TYPE_CHECKING:
    from transformers import LlavaForConditionalGeneration, LlavaProcessor

_LONGEST = 1000  # characters of a reason
# What config.json may say: far beyond any model that is trained or taken here.
_LARGEST = {
    "num_hidden_layers": 1_024,
    "num_attention_heads": 1_024,
    "num_key_value_heads": 1_024,
    "hidden_size": 65_536,
    "intermediate_size": 1 << 20,
    "vocab_size": 10_000_000,
    "image_size": 16_384,
    "patch_size": 16_384,
    "max_position_embeddings": 1 << 30,
}


def load_strictly(kind: Any, directory: Path, allowed: Sequence[str] = (), *, bin_weights: bool = False) -> Any:
    """`kind.from_pretrained(directory)` in float32; UserError unless every key is accounted for.

    `allowed`: patterns (fnmatch) of keys in the file that the model may do without. Weights are safetensors;
    `bin_weights`: also PyTorch's own file, of which tensors alone are read. No code in the directory is run.
    """
    import torch

    if not (directory / "config.json").is_file():
        raise UserError(f"{directory}: no model there; run the stage that makes it")
    check_sizes(directory / "config.json")
    if not bin_weights and not any(directory.glob("*.safetensors")):
        raise UserError(f"{directory}: no safetensors file there; other weights are not read")
    try:
        with quiet():
            _check_numbers(kind, directory, ("*.safetensors", "*.bin") if bin_weights else ("*.safetensors",))
            model, keys = kind.from_pretrained(
                directory,
                dtype=torch.float32,
                output_loading_info=True,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=None if bin_weights else True,
            )
    except UserError:
        raise
    except Exception as error:
        # A configuration with a value that nobody thought of makes transformers raise almost anything (KeyError,
        # ZeroDivisionError, pickle's errors for weights with code in them ...): the directory is at fault.
        raise UserError(f"{directory}: {_reason(error)}") from error
    keys["unexpected_keys"] = [
        key for key in keys["unexpected_keys"] if not any(fnmatch(str(key), pattern) for pattern in allowed)
    ]
    wrong = {name: sorted(map(str, found)) for name, found in keys.items() if found}
    if wrong:
        listed = "; ".join(f"{name.replace('_', ' ')}: {', '.join(found)}" for name, found in wrong.items())
        listed = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in listed)[:_LONGEST]
        raise UserError(f"{directory}: its weights are not those of {type(model).__name__}: {listed}")
    model.config._name_or_path = ""  # or the path on this machine would be saved within another model's config
    return model.eval()


def check_sizes(path: Path) -> None:
    """UserError for a config.json whose sizes no memory holds: transformers would make such a model first."""
    try:
        config = read_json(path)
    except (ValueError, RecursionError):
        raise UserError(f"{path}: not JSON") from None
    if not isinstance(config, dict):
        raise UserError(f"{path}: not a model's configuration")
    for part in (config, *(value for key, value in config.items() if key.endswith("_config"))):
        for name, most in _LARGEST.items() if isinstance(part, dict) else ():
            value = part.get(name)
            if isinstance(value, int | float) and not 0 <= value <= most:
                raise UserError(f"{path}: {name} {str(value)[:40]} is not in 0 to {most:,}")


def _check_numbers(kind: Any, directory: Path, patterns: Sequence[str]) -> None:
    """UserError when the files can hold no more than a part of the weights that config.json tells of.

    A configuration without a part stands for that part at its publisher's size: gigabytes that transformers would
    draw, to say afterwards that they were not in the files.
    """
    import torch
    from transformers import AutoConfig

    own = getattr(kind, "config_class", None)  # none: one of the Auto classes
    config = (own or AutoConfig).from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        model = kind(config) if own else kind.from_config(config, trust_remote_code=False)
    told = sum(parameter.numel() for parameter in model.parameters())
    held = sum(path.stat().st_size for pattern in patterns for path in directory.glob(pattern))
    if told > held:  # of two bytes a number, with the embeddings counted twice
        raise UserError(f"{directory}: config.json tells of {told:,} weights, its files have {held:,} bytes")


def _reason(error: Exception) -> str:
    said = " ".join(str(error).split())[:_LONGEST]
    return (
        said
        if isinstance(error, OSError | ValueError | RuntimeError) and said
        else f"{type(error).__name__}: {said}"
    )


def load(directory: Path) -> LlavaForConditionalGeneration:
    """The model that `save` wrote, float32 on the CPU; UserError when a weight is missing or left over."""
    from transformers import LlavaForConditionalGeneration

    model = load_strictly(LlavaForConditionalGeneration, directory)
    if not is_one_linear_map(model):
        raise UserError(f"{directory}: its projector is not one linear map, which training here takes it for")
    return model


def save(
    model: LlavaForConditionalGeneration, base: Path, directory: Path, *, seed: int, data: Sequence[str] = ()
) -> None:
    """Write a LLaVA directory: weights, configs, processor and tokenizer of `base`, fingerprint, model card.

    `data`: whose rows it learnt from, for the card; none: drawn here. AutoModelForImageTextToText, AutoProcessor
    and the `image-text-to-text` pipeline load it without this project.
    """
    layout = read_json(base / "layout.json")
    with quiet(), atomic_directory(directory) as temporary:
        model.save_pretrained(temporary)
        make_processor(base, model.config).save_pretrained(temporary)
        (temporary / "model.safetensors").chmod(0o644)
        write_fingerprint(model, temporary, seed)
        learnt = (*data, *layout.get("texts", ()))
        write_card(temporary, trained_card(model, layout.get("base_models", ()), learnt))


def make_processor(base: Path, config: Any) -> LlavaProcessor:
    """The processor of a LLaVA made from `base`: its tokenizer with the chat template, its picture preparation.

    Pictures are resized by Pillow, as in training. Once torchvision is installed, transformers takes it for every
    image processor that exists in both ways, whichever of them is named, and it gives other pixels. Hence the
    plain `PilBackend` with all values spelt out: CLIPImageProcessorPil is that class with default values.
    """
    from transformers import AutoTokenizer, LlavaProcessor
    from transformers.image_processing_backends import PilBackend

    values = read_json(base / "vision_tower" / "preprocessor_config.json")
    del values["image_processor_type"]
    tokenizer = AutoTokenizer.from_pretrained(base / "tokenizer")
    return LlavaProcessor(
        image_processor=PilBackend(**values),
        tokenizer=tokenizer,
        patch_size=config.vision_config.patch_size,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        # the class token, which the strategy "default" takes off again
        num_additional_image_tokens=1 if config.vision_feature_select_strategy == "default" else 0,
        chat_template=tokenizer.chat_template,
    )


def normalization(base: Path) -> tuple[list[float], list[float]]:
    """Mean and deviation by channel of the pictures that the vision tower in `base` was trained on."""
    values = read_json(base / "vision_tower" / "preprocessor_config.json")
    return values["image_mean"], values["image_std"]


def is_one_linear_map(model: LlavaForConditionalGeneration) -> bool:
    """Whether activation and second map of a LLaVA's projector change nothing."""
    import torch

    second = model.model.multi_modal_projector.linear_2
    identity = torch.equal(second.weight, torch.eye(second.out_features, dtype=second.weight.dtype))
    no_bias = second.bias is None or not second.bias.any()
    return bool(model.config.projector_hidden_act == "linear" and identity and no_bias)


@contextmanager
def quiet() -> Iterator[None]:
    """transformers without its progress bars and warnings: what matters of them is raised as an error."""
    from transformers.utils import logging

    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()

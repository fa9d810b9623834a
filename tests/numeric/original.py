"""The original's forward pass written anew, in float64, and random checkpoints as its trainer saves them.

Written from the description of the model and from its key names, not from its code; held against the recorded
outputs before it is used to hold the importer.

`B` rows, `T` tokens, `H` heads, `d` their size, `P` tokens of a picture.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from minivlm.files import write_json

OLD_NAMES = {
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
}


@dataclass(frozen=True)
class Variant:
    """Sizes of a random checkpoint; not the original's defaults, so that a default taken in error shows."""

    heads: int = 4
    kv: int = 2
    size: int = 16  # of a head
    layers: int = 2
    intermediate: int = 72
    vocabulary: int = 320
    theta: float = 5e4
    eps: float = 3e-3
    positions: int = 256
    act: str = "silu"
    bias: bool | None = True  # of the projector; None: a bare language model
    older: bool = False  # the older generation's names and rotation of neighbours
    seed: int = 0

    @property
    def config(self) -> dict:
        return {
            "hidden_size": self.heads * self.size,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv,
            "vocab_size": self.vocabulary,
            "rms_norm_eps": self.eps,
            "rope_theta": self.theta,
            "max_position_embeddings": self.positions,
            "hidden_act": self.act,
            "dropout": 0.1,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "flash_attn": True,
            "use_moe": False,
        }


def random_state(variant: Variant, features: int) -> dict[str, torch.Tensor]:
    """A state dict in half precision with the newer generation's names (the older's if `older`)."""
    generator = torch.Generator().manual_seed(variant.seed)
    width, inner = variant.heads * variant.size, variant.intermediate

    def draw(*shape: int, std: float = 0.2) -> torch.Tensor:
        return (torch.randn(*shape, generator=generator) * std).half()

    state = {"model.embed_tokens.weight": draw(variant.vocabulary, width, std=0.5)}
    for layer in range(variant.layers):
        shapes = {
            "self_attn.q_proj": (width, width),
            "self_attn.k_proj": (variant.kv * variant.size, width),
            "self_attn.v_proj": (variant.kv * variant.size, width),
            "self_attn.o_proj": (width, width),
            "mlp.gate_proj": (inner, width),
            "mlp.down_proj": (width, inner),
            "mlp.up_proj": (inner, width),
        }
        for name, shape in shapes.items():  # in the order of the original's modules
            if name == "mlp.gate_proj":
                for norm in ("input_layernorm", "post_attention_layernorm"):
                    state[f"model.layers.{layer}.{norm}.weight"] = 1 + draw(width)
            state[f"model.layers.{layer}.{name}.weight"] = draw(*shape)
    state["model.norm.weight"] = 1 + draw(width)
    state["lm_head.weight"] = state["model.embed_tokens.weight"].clone()
    if variant.bias is not None:
        state["vision_proj.vision_proj.0.weight"] = draw(width, features)
        if variant.bias:
            state["vision_proj.vision_proj.0.bias"] = draw(width)
    return older_names(state) if variant.older else state


def older_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors under the names of the code before 2025-04."""
    renamed = {"model.embed_tokens.weight": "tok_embeddings.weight", "lm_head.weight": "output.weight"}
    result = {}
    for key, tensor in state.items():
        name = renamed.get(key, key.removeprefix("model."))
        for new, old in OLD_NAMES.items():
            name = name.replace(new, old)
        result[name] = tensor
    return result


def newer_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The opposite of `older_names`; rows of queries and keys stay as they are."""
    if any(key.startswith("model.") for key in state):
        return state
    forward = {"tok_embeddings.weight": "model.embed_tokens.weight", "output.weight": "lm_head.weight"}
    result = {}
    for key, tensor in state.items():
        name = forward.get(key, key if key.startswith("vision_proj") else f"model.{key}")
        for new, old in OLD_NAMES.items():
            name = name.replace(f".{old}.", f".{new}.")
        result[name] = tensor
    return result


def original_logits(
    state: dict[str, torch.Tensor],
    config: dict,
    ids: torch.Tensor,
    features: torch.Tensor | None = None,
    *,
    image_id: int = 34,
    mask: torch.Tensor | None = None,
    older: bool = False,
) -> torch.Tensor:
    """(B, T) ids and (B, N, P, V) features of each row's pictures → (B, T, vocabulary), float64."""
    weights = {key: tensor.double() for key, tensor in newer_names(state).items()}
    hidden = weights["model.embed_tokens.weight"][ids]
    if features is not None:
        projected = features.double() @ weights["vision_proj.vision_proj.0.weight"].T
        projected = projected + weights.get("vision_proj.vision_proj.0.bias", torch.zeros(1))
        for row in range(len(ids)):
            for number, start in enumerate(runs(ids[row].tolist(), image_id, features.shape[2])):
                if number < features.shape[1]:
                    hidden[row, start : start + features.shape[2]] = projected[row, number]
    allowed = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()[None, None]  # (1, 1, T, T)
    if mask is not None:
        # The original adds -1e9: a row that may see nothing sees everything alike; such rows are compared nowhere.
        allowed = allowed & mask.bool()[:, None, None, :] | torch.eye(ids.shape[1], dtype=torch.bool)
    for layer in range(config["num_hidden_layers"]):
        here = {key.split(".", 3)[3]: value for key, value in weights.items() if f".layers.{layer}." in key}
        normed = rms(hidden, here["input_layernorm.weight"], config["rms_norm_eps"])
        hidden = hidden + attention(here, config, normed, allowed, older)
        normed = rms(hidden, here["post_attention_layernorm.weight"], config["rms_norm_eps"])
        gate, up = normed @ here["mlp.gate_proj.weight"].T, normed @ here["mlp.up_proj.weight"].T
        gate = gate * gate.sigmoid() if config["hidden_act"] == "silu" else torch.nn.functional.gelu(gate)
        hidden = hidden + (gate * up) @ here["mlp.down_proj.weight"].T
    return rms(hidden, weights["model.norm.weight"], config["rms_norm_eps"]) @ weights["lm_head.weight"].T


def runs(ids: list[int], image_id: int, length: int) -> list[int]:
    """Where runs of exactly a picture's length start: a stray token and a run cut short are text."""
    starts, t = [], 0
    while t < len(ids):
        end = t
        while end < len(ids) and ids[end] == image_id:
            end += 1
        if end - t == length:
            starts.append(t)
        t = max(end, t + 1)
    return starts


def rms(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight


def attention(here: dict, config: dict, x: torch.Tensor, allowed: torch.Tensor, older: bool) -> torch.Tensor:
    rows, length, width = x.shape
    heads, kv = config["num_attention_heads"], config["num_key_value_heads"]
    size = width // heads

    def split(name: str, number: int) -> torch.Tensor:
        return (x @ here[f"self_attn.{name}.weight"].T).view(rows, length, number, size).transpose(1, 2)

    q = rotate(split("q_proj", heads), config["rope_theta"], older)
    k = rotate(split("k_proj", kv), config["rope_theta"], older).repeat_interleave(heads // kv, dim=1)
    v = split("v_proj", kv).repeat_interleave(heads // kv, dim=1)
    scores = (q @ k.transpose(2, 3) / math.sqrt(size)).masked_fill(~allowed, -torch.inf)  # (B, H, T, T)
    mixed = scores.softmax(-1) @ v
    return mixed.transpose(1, 2).reshape(rows, length, width) @ here["self_attn.o_proj.weight"].T


def rotate(x: torch.Tensor, theta: float, older: bool) -> torch.Tensor:
    """(B, H, T, d): pair i turned by t · theta^(-2i/d); pairs are (i, i + d/2), in the older code (2i, 2i + 1)."""
    half = x.shape[-1] // 2
    angle = torch.arange(x.shape[2]).double()[:, None] * theta ** (-torch.arange(half).double() / half)
    first, second = (x[..., 0::2], x[..., 1::2]) if older else (x[..., :half], x[..., half:])
    turned = (first * angle.cos() - second * angle.sin(), first * angle.sin() + second * angle.cos())
    return torch.stack(turned, -1).flatten(-2) if older else torch.cat(turned, -1)


def write_clip(directory: Path, seed: int = 0, size: int = 16, patch: int = 8) -> Path:
    """A random CLIPVisionModel's directory with its picture preparation; 24 wide."""
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(seed)
    config = CLIPVisionConfig(
        hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3, image_size=size,
        patch_size=patch, hidden_act="quick_gelu", initializer_range=0.3, initializer_factor=3.0,
    )  # fmt: skip
    CLIPVisionModel(config).save_pretrained(directory)
    CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size}).save_pretrained(
        directory
    )
    return directory


def write_tokenizer(directory: Path) -> Path:
    """Bytes and three special tokens, in the original's order: '@' is 34 there and here."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    # Printable characters follow the special tokens from '!' (3) on, as in the original's tokenizer.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*special, *alphabet])}
    bpe = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=special[0], bos_token=special[1], eos_token=special[2]
    )
    tokenizer.save_pretrained(directory)
    return directory


def write_variant(directory: Path, variant: Variant, **files: object) -> Path:
    """checkpoint.pth, config.json, clip/ and tokenizer/ of a random checkpoint; `files`: more of config.json."""
    write_clip(directory / "clip", variant.seed)
    write_tokenizer(directory / "tokenizer")
    torch.save(random_state(variant, 24), directory / "checkpoint.pth")
    write_json(directory / "config.json", variant.config | files)
    return directory

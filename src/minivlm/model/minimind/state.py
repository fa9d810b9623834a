"""A `.pth` file of the original → its tensors under transformers' names, every key accounted for.

`D` width, `F` width of the feed-forward layers, `A` = heads times the size of a head, `K` the same of the
key-value heads, `V` width of the vision tower, `T` vocabulary.

Two generations of names are read: `model.layers.N.self_attn.q_proj` (since 2025-04) and `layers.N.attention.wq`
(before), whose rotation pairs neighbours; `minivlm.model.minimind.language` turns the latter into halves. What may
stand in a file beside the model's own weights has a name here:

| name | what | what is done with it |
|---|---|---|
| `module.`, `_orig_mod.` before a name | DataParallel, torch.compile | taken off |
| `model` of a file that also holds `optimizer` … | a trainer's file to resume from | its `model` is read |
| `lm_head.weight`, `output.weight` | second copy of the embedding | must equal it |
| `freqs_cos`, `freqs_sin`, `pos_cis` | rotary tables | must be those of the configuration |
| `layers.N.attention.mask` | causal mask of the older code | must be that |
| `vision_encoder.…` | the frozen tower, saved with the rest | its vision half must be the given tower's |
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.errors import UserError

if TYPE_CHECKING:
    import torch

_WRAPPERS = re.compile(r"^(?:(?:module|_orig_mod)\.)+")
_ROTARY = {"model.freqs_cos", "model.freqs_sin", "freqs_cos", "freqs_sin", "pos_cis"}
_MASK = re.compile(r"^layers\.\d+\.attention\.mask$")
_TOWER = "vision_encoder."
_PROJECTOR = "vision_proj.vision_proj.0."
_EXPERTS = re.compile(r"\.(?:experts|shared_experts)\.|\.(?:mlp|feed_forward)\.gate\.weight$")
_HEADS = ("lm_head.weight", "output.weight")
_OLD = {
    "tok_embeddings.weight": "embed_tokens.weight",
    "norm.weight": "norm.weight",
    "attention.wq.weight": "self_attn.q_proj.weight",
    "attention.wk.weight": "self_attn.k_proj.weight",
    "attention.wv.weight": "self_attn.v_proj.weight",
    "attention.wo.weight": "self_attn.o_proj.weight",
    "feed_forward.w1.weight": "mlp.gate_proj.weight",
    "feed_forward.w2.weight": "mlp.down_proj.weight",
    "feed_forward.w3.weight": "mlp.up_proj.weight",
    "attention_norm.weight": "input_layernorm.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
}
_OLD_LAYER = re.compile(r"^layers\.(\d+)\.(.+)$")
_SHOWN = 8  # keys in a message

# A layer's weights and the names of their axes (D, F, A, K above).
LAYER = {
    "self_attn.q_proj.weight": ("A", "D"),
    "self_attn.k_proj.weight": ("K", "D"),
    "self_attn.v_proj.weight": ("K", "D"),
    "self_attn.o_proj.weight": ("D", "A"),
    "mlp.gate_proj.weight": ("F", "D"),
    "mlp.up_proj.weight": ("F", "D"),
    "mlp.down_proj.weight": ("D", "F"),
    "input_layernorm.weight": ("D",),
    "post_attention_layernorm.weight": ("D",),
}


@dataclass
class Checkpoint:
    """What a file holds. `llm`: names of transformers' LlamaModel; all weights are float32."""

    path: Path
    llm: dict[str, torch.Tensor] = field(default_factory=dict)
    head: torch.Tensor | None = None  # (T, D), the second copy of the embedding
    projector: dict[str, torch.Tensor] = field(default_factory=dict)  # weight (D, V), bias (D,); empty in an LLM
    tower: dict[str, torch.Tensor] = field(default_factory=dict)  # names of transformers' CLIPModel
    rotary: dict[str, torch.Tensor] = field(default_factory=dict)  # as they are
    interleaved: bool = False  # queries and keys rotate neighbours, not halves
    sizes: dict[str, int] = field(default_factory=dict)  # T, D, F, A, K, V and `layers`


def read_state(path: Path) -> Checkpoint:
    """Read a `llm_*.pth`, `pretrain_vlm_*.pth` or `sft_vlm_*.pth`; one UserError lists all keys that are wrong."""
    checkpoint = Checkpoint(path)
    unknown: list[str] = []
    for key, tensor in _tensors(path).items():
        if not _place(checkpoint, key, tensor):
            unknown.append(key)
    experts = [key for key in unknown if _EXPERTS.search(key)]
    if experts:
        raise UserError(f"{path}: a mixture of experts ({_listed(experts)}), which has no place in a dense Llama")
    missing, misshaped = _against_shapes(checkpoint)
    faults = {"unknown": unknown, "missing": missing, "of another shape": misshaped}
    wrong = "; ".join(f"{name}: {_listed(keys)}" for name, keys in faults.items() if keys)
    if wrong:
        raise UserError(f"{path}: not a checkpoint of the original's CLIP era: {wrong}")
    _check_values(checkpoint)
    return checkpoint


def _check_packing(path: Path) -> None:
    """UserError for a zip with packed members: torch.save packs none, and a small one can hold any size."""
    import zipfile

    try:
        with path.open("rb") as stream:
            if stream.read(4) != b"PK\3\4":
                return
            with zipfile.ZipFile(stream) as archive:
                packed = [info.filename for info in archive.infolist() if info.file_size > info.compress_size]
    except Exception:  # no zip, or one that torch reads in another way: it says so
        return
    if packed:
        raise UserError(f"{path}: not written by torch.save: {packed[0][:60]!r} in it is packed")


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    """Name → tensor, wrappers' prefixes taken off; UserError for what is no such file."""
    import torch

    _check_packing(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(f"{path}: not a file of tensors alone (torch.load with weights_only=True)") from None
    except FileNotFoundError:
        raise UserError(f"{path}: not found") from None
    except IsADirectoryError:
        raise UserError(f"{path}: a folder; the original's checkpoints are .pth files") from None
    except PermissionError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except Exception as error:
        # What torch's readers raise on a file that is cut short or is something else: almost anything.
        raise UserError(f"{path}: damaged or not written by torch.save: {_one_line(error)}") from None
    if isinstance(content, dict) and isinstance(content.get("model"), dict) and "optimizer" in content:
        content = content["model"]  # what the original's trainer resumes from
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: holds no state dict")
    others = [str(key) for key, value in content.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise UserError(f"{path}: holds what is no tensor: {_listed(others)}")
    named = {_WRAPPERS.sub("", str(key)): value for key, value in content.items()}
    if len(named) < len(content):
        raise UserError(f"{path}: some names differ by a wrapper's prefix alone (module., _orig_mod.)")
    return named


def _place(checkpoint: Checkpoint, key: str, tensor: torch.Tensor) -> bool:
    """Put a tensor where it belongs; False when its name is not known."""
    if key in _ROTARY:
        checkpoint.rotary[key] = tensor
        return True
    if _MASK.match(key):
        return _is_causal_mask(tensor)
    if not tensor.is_floating_point():
        return key.startswith(f"{_TOWER}") and key.endswith("position_ids")
    if key.startswith(_TOWER):
        checkpoint.tower[key.removeprefix(_TOWER)] = tensor.float()
    elif key.startswith(_PROJECTOR) and key.removeprefix(_PROJECTOR) in ("weight", "bias"):
        checkpoint.projector[key.removeprefix(_PROJECTOR)] = tensor.float()
    elif key in _HEADS:
        checkpoint.head = tensor.float()
    elif (name := _llm_name(key)) is not None and name not in checkpoint.llm:
        checkpoint.llm[name] = tensor.float()
        checkpoint.interleaved |= not key.startswith("model.")
    else:
        return False
    return True


def _llm_name(key: str) -> str | None:
    """transformers' name within LlamaModel of a key of either generation; None for any other."""
    if key.startswith("model."):
        name = key.removeprefix("model.")
        layer = _OLD_LAYER.match(name)
        known = layer.group(2) in LAYER if layer else name in ("embed_tokens.weight", "norm.weight")
        return name if known else None
    if layer := _OLD_LAYER.match(key):
        suffix = _OLD.get(layer.group(2))
        return f"layers.{layer.group(1)}.{suffix}" if suffix in LAYER else None
    return _OLD.get(key) if key in ("tok_embeddings.weight", "norm.weight") else None


def _against_shapes(checkpoint: Checkpoint) -> tuple[list[str], list[str]]:
    """(missing names, names with a shape that contradicts the others'); fills `sizes`."""
    llm, sizes = checkpoint.llm, checkpoint.sizes
    numbers = [int(match.group(1)) for name in llm if (match := _OLD_LAYER.match(name))]
    sizes["layers"] = max(numbers, default=-1) + 1
    expected: dict[str, tuple[str, ...]] = {"embed_tokens.weight": ("T", "D"), "norm.weight": ("D",)}
    if sizes["layers"] > max(1000, len(llm)):  # a number out of all bounds is no layer
        return [], [name for name in llm if name.startswith(f"layers.{sizes['layers'] - 1}.")]
    for number in range(max(1, sizes["layers"])):
        expected |= {f"layers.{number}.{name}": axes for name, axes in LAYER.items()}
    shapes: list[tuple[str, torch.Tensor | None, tuple[str, ...]]] = [
        (name, llm.get(name), axes) for name, axes in expected.items()
    ]
    shapes.append(("lm_head.weight", checkpoint.head, ("T", "D")))
    if checkpoint.projector:
        shapes.append((f"{_PROJECTOR}weight", checkpoint.projector.get("weight"), ("D", "V")))
        if "bias" in checkpoint.projector:
            shapes.append((f"{_PROJECTOR}bias", checkpoint.projector["bias"], ("D",)))
    missing = [name for name, tensor, _ in shapes if tensor is None]
    misshaped = []
    for name, tensor, axes in shapes:
        if tensor is None:
            continue
        shape = tuple(tensor.shape)
        fits = len(shape) == len(axes) and all(
            sizes.setdefault(axis, length) == length for axis, length in zip(axes, shape, strict=True)
        )
        if not fits or 0 in shape:
            misshaped.append(f"{name} {list(shape)}")
    return missing, misshaped


def _check_values(checkpoint: Checkpoint) -> None:
    """UserError for an embedding that is not tied, and for weights that are no finite numbers."""
    import torch

    head = checkpoint.head
    if head is None or not torch.equal(head, checkpoint.llm["embed_tokens.weight"]):
        raise UserError(
            f"{checkpoint.path}: lm_head.weight differs from the embedding; the original ties the two, and one of "
            "them would be lost"
        )
    weights = {**checkpoint.llm, **{f"{_PROJECTOR}{name}": each for name, each in checkpoint.projector.items()}}
    broken = [name for name, tensor in weights.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise UserError(f"{checkpoint.path}: weights that are not finite numbers: {_listed(broken)}")


def _is_causal_mask(tensor: torch.Tensor) -> bool:
    import torch

    square = tensor.ndim == 4 and tensor.shape[0] == tensor.shape[1] == 1 and tensor.shape[2] == tensor.shape[3]
    if not square or not tensor.is_floating_point():
        return False
    return torch.equal(tensor[0, 0], torch.full_like(tensor[0, 0], float("-inf")).triu(1))


def original_names(llm: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(the newer generation's key, LlamaModel's name) of a language model's weights, in the original's order."""
    layers = sorted({int(match.group(1)) for name in llm if (match := _OLD_LAYER.match(name))})
    order = ["q_proj", "k_proj", "v_proj", "o_proj"]
    names = [f"self_attn.{name}.weight" for name in order]
    names += ["input_layernorm.weight", "post_attention_layernorm.weight"]
    names += [f"mlp.{name}.weight" for name in ("gate_proj", "down_proj", "up_proj")]
    yield "model.embed_tokens.weight", "embed_tokens.weight"
    for number in layers:
        yield from ((f"model.layers.{number}.{name}", f"layers.{number}.{name}") for name in names)
    yield "model.norm.weight", "norm.weight"


def _listed(keys: list[str]) -> str:
    """Some of the keys, each short and without what would break the line."""
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    plain = ("".join(c if c.isprintable() else ascii(c)[1:-1] for c in key)[:200] for key in sorted(keys)[:_SHOWN])
    return ", ".join(plain) + more


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__

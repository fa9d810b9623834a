"""The configuration of an original's checkpoint: from its shapes, from FILE.json, and the original's defaults.

What shapes say (vocabulary, width, layers, feed-forward width, and with the head count the key-value heads) need
not be given; what they cannot say (head count, rotary theta, epsilon, positions, activation) has the original's
defaults. A contradiction is an error. Both generations' field names are read.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minivlm.errors import UserError
from minivlm.files import read_json
from minivlm.model.minimind.state import Checkpoint

# The older generation's name of a field → the newer one's, which is transformers' too.
_OLDER = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "hidden_dim": "intermediate_size",
    "norm_eps": "rms_norm_eps",
    "max_seq_len": "max_position_embeddings",
}
# Of the original's defaults those that no shape tells; the older generation knew 8,192 positions.
_DEFAULTS: dict[str, Any] = {
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e6,
    "max_position_embeddings": 32768,
    "hidden_act": "silu",
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_HEADS, _KEY_VALUE_HEADS, _OLDER_POSITIONS = 8, 2, 8192
_INTEGERS = {
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size",
    "vocab_size", "max_position_embeddings",
}  # fmt: skip
_IDS = {"bos_token_id", "eos_token_id", "image_token_id"}
_REALS = {"rms_norm_eps", "rope_theta"}
# Fields that change nothing in what a trained dense model computes.
_WITHOUT_EFFECT = {
    "dropout", "flash_attn", "multiple_of", "num_experts_per_tok", "n_routed_experts", "n_shared_experts",
    "scoring_func", "aux_loss_alpha", "seq_aux", "norm_topk_prob",
}  # fmt: skip
_REFUSED = {"use_moe", "inference_rope_scaling", "rope_scaling", "tie_word_embeddings"}
_PICTURE = {"image_ids", "image_special_token", "image_token_id"}
_KNOWN = {*_OLDER, *_DEFAULTS, *_INTEGERS, *_IDS, *_WITHOUT_EFFECT, *_REFUSED, *_PICTURE, "pad_token_id"}


@dataclass(frozen=True)
class Sizes:
    """The configuration as transformers' LlamaConfig has it."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    hidden_act: str
    bos_token_id: int
    eos_token_id: int

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads


def read_fields(path: Path | None) -> dict[str, Any]:
    """FILE.json: the original's configuration, or a file that holds it as `upstream_config`; {} for None."""
    if path is None:
        return {}
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise UserError(f"{path}: not found") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    if isinstance(content, dict) and isinstance(content.get("upstream_config"), dict):
        outside = {name: content[name] for name in ("image_token_id",) if name in content}
        content = outside | content["upstream_config"]
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a JSON object of the original's configuration fields")
    return content


def unknown_fields(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Fields that are not the original's own; a saved configuration has some fifty of transformers."""
    return tuple(sorted(set(fields) - _KNOWN))


def configure(checkpoint: Checkpoint, fields: Mapping[str, Any]) -> Sizes:
    """The configuration of a checkpoint; UserError for what contradicts its shapes or has no place in a Llama."""
    path, known = checkpoint.path, checkpoint.sizes
    given = given_fields(path, fields)
    check_ids(path, given, known["T"])
    told: dict[str, Any] = {
        "vocab_size": known["T"],
        "hidden_size": known["D"],
        "intermediate_size": known["F"],
        "num_hidden_layers": known["layers"],
    }
    for name, value in told.items():
        if given.get(name, value) != value:
            raise UserError(f"{path}: {name} is {given[name]} in the configuration, {value} by the shapes")
    heads, key_value_heads = _heads(checkpoint, given)
    values = dict(_DEFAULTS)
    if checkpoint.interleaved:
        values["max_position_embeddings"] = _OLDER_POSITIONS
    values |= {name: given[name] for name in values if name in given}
    sizes = Sizes(**told, num_attention_heads=heads, num_key_value_heads=key_value_heads, **values)
    _check_rotary(checkpoint, sizes)
    return sizes


def picture_token(path: Path, fields: Mapping[str, Any], patches: int) -> int:
    """The id that stands for a picture's tokens, `patches` in a row: 34 ('@') unless the configuration says."""
    ids = fields.get("image_ids")
    if ids is not None:
        if not isinstance(ids, list) or not ids or any(not isinstance(each, int) for each in ids):
            raise UserError(f"{path}: image_ids is not a list of token ids")
        if len(set(ids)) > 1:
            raise UserError(
                f"{path}: image_ids marks a picture by {len(set(ids))} different tokens; LLaVA has one"
            )
        if len(ids) != patches:
            raise UserError(f"{path}: image_ids has {len(ids)} tokens, the vision tower gives {patches}")
    number = fields.get("image_token_id")
    if number is None:
        return int(ids[0]) if ids else 34
    _check_type(path, "image_token_id", number)
    return int(number)


def given_fields(path: Path | str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields under their newer names, null ones left out; `path`: whose they are, for messages.

    UserError for other types and for what has no place in a Llama. Whole numbers become int, also 8192.0, as some
    writers of JSON and YAML have them: transformers' configurations take no other.
    """
    given: dict[str, Any] = {}
    for key, value in fields.items():
        name = _OLDER.get(key, key)
        if key not in _KNOWN and (near := difflib.get_close_matches(key, _KNOWN, n=1, cutoff=0.85)):
            raise UserError(f"{path}: unknown configuration field {key!r}; did you mean {near[0]!r}?")
        if value is None or key not in _KNOWN:
            continue
        if name in given and given[name] != value:
            raise UserError(f"{path}: {name} is given twice, as {given[name]} and {value}")
        _check_type(path, name, value)
        given[name] = int(value) if name in _INTEGERS | _IDS else float(value) if name in _REALS else value
    if given.get("use_moe"):
        raise UserError(f"{path}: use_moe: a mixture of experts has no place in a dense Llama")
    if given.get("inference_rope_scaling") or given.get("rope_scaling"):
        raise UserError(f"{path}: rope scaling: the original's formula is not transformers'; import without it")
    if given.get("tie_word_embeddings") is False:
        raise UserError(f"{path}: tie_word_embeddings is false; the original's embeddings are tied")
    return given


def check_ids(path: Path | str, given: Mapping[str, Any], vocabulary: int) -> None:
    """UserError for a token id that a model of `vocabulary` tokens has no row for."""
    for name in sorted(_IDS & given.keys()):
        if given[name] >= vocabulary:
            raise UserError(f"{path}: {name} is {given[name]}; there are {vocabulary} tokens")


def _check_type(path: Path | str, name: str, value: Any) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    whole = number and value == int(value)
    if (
        (name in _INTEGERS and not (whole and value > 0))
        or (name in _IDS and not (whole and value >= 0))
        or (name in _REALS and not (number and value > 0))
    ):
        raise UserError(f"{path}: {name} is {value!r} in the configuration, which is no such number")
    if name == "hidden_act":
        from transformers.activations import ACT2FN

        if not isinstance(value, str) or value not in ACT2FN:
            raise UserError(f"{path}: hidden_act {value!r} is not known to transformers")


def _heads(checkpoint: Checkpoint, given: Mapping[str, Any]) -> tuple[int, int]:
    """(attention heads, key-value heads). Shapes give both once one of them, or the size of a head, is known."""
    path, sizes = checkpoint.path, checkpoint.sizes
    width, keys = sizes["D"], sizes["K"]
    heads, key_value_heads = given.get("num_attention_heads"), given.get("num_key_value_heads")
    size = _rotary_size(checkpoint)
    guessed = heads is None and key_value_heads is None and size is None
    if heads is None:
        if size is None and key_value_heads is not None and keys % key_value_heads == 0:
            size = keys // key_value_heads
        heads = width // size if size else _HEADS
    heads = int(heads)
    size = width // heads
    if not size or width % heads or size % 2:
        raise UserError(f"{path}: width {width} does not divide into {heads} heads of an even size")
    if keys % size or sizes["A"] != width or heads % (keys // size):
        raise UserError(
            f"{path}: {heads} heads of {size} do not fit q_proj [{sizes['A']}, {width}] and k_proj [{keys}, "
            f"{width}]; "
            "give num_attention_heads"
        )
    found = keys // size
    if key_value_heads is not None and found != key_value_heads:
        raise UserError(
            f"{path}: num_key_value_heads is {key_value_heads} in the configuration, {found} by the shapes with "
            f"{heads} heads"
        )
    if guessed and found != _KEY_VALUE_HEADS:
        raise UserError(
            f"{path}: the shapes do not tell the number of heads, and the original's default of {heads} "
            "would mean "
            f"{found} key-value heads, not its {_KEY_VALUE_HEADS}; give num_attention_heads"
        )
    return heads, found


def _rotary_size(checkpoint: Checkpoint) -> int | None:
    """The size of a head, where a rotary table was saved: its width (half of it in the older generation)."""
    for name, table in checkpoint.rotary.items():
        if table.ndim == 2:
            return int(table.shape[1]) * (2 if name == "pos_cis" else 1)
    return None


def _check_rotary(checkpoint: Checkpoint, sizes: Sizes) -> None:
    """UserError unless saved rotary tables are those of theta and the size of a head."""
    import torch

    for name, table in checkpoint.rotary.items():
        half = sizes.head_dim // 2
        angles = torch.outer(torch.arange(len(table)).double(), sizes.rope_theta ** -(torch.arange(half) / half))
        cosines = angles.cos()  # (positions, size / 2)
        if name == "pos_cis":
            found, expected = table, torch.polar(torch.ones_like(angles), angles)
        else:
            part = angles.sin() if name.endswith("sin") else cosines
            found, expected = table, torch.cat([part, part], dim=1)
        # float16 tables are exact to 1e-3; float32 ones lose an ulp of the angle, which grows with the position.
        if found.shape != expected.shape or (found[:64] - expected[:64]).abs().max() > 2e-3:
            raise UserError(f"{checkpoint.path}: {name} is not the rotary table of theta {sizes.rope_theta:g}")

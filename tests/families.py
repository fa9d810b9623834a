"""Tiny random models and tokenizers of several families, as directories that somebody could bring: offline.

Each tokenizer has its family's ways: how a chat is written, which tokens are special, what it adds by itself, how
many rows of the embedding are spare.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

TEXTS = ["夕阳下的大海上有两只红色的帆船。", "请描述这张图片。", "a bird in the sky", "user\n", "assistant\n"] * 4
SIDE, PATCH = 16, 8

CHATML = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' -}}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)
DEFAULT_SYSTEM = (
    "{%- if messages[0].role != 'system' -%}{{- '<|im_start|>system\nBe helpful.<|im_end|>\n' -}}{%- endif -%}"
    + CHATML
)
THINKING = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\n' -}}"
    "{%- if message.role == 'assistant' and loop.last -%}"
    "{{- '<think>\n\n</think>\n\n' + message.content.lstrip('\n') -}}"
    "{%- elif message.role == 'assistant' -%}{{- message.content.split('</think>')[-1].lstrip('\n') -}}"
    "{%- else -%}{{- message.content -}}{%- endif -%}"
    "{{- '<|im_end|>\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}"
    "{%- if enable_thinking is defined and enable_thinking is false -%}"
    "{{- '<think>\n\n</think>\n\n' -}}{%- endif -%}"
    "{%- endif -%}"
)
HEADERS = (
    "{{- bos_token -}}"
    "{%- if strftime_now is defined -%}{%- set today = strftime_now('%d %b %Y') -%}{%- endif -%}"
    "{{- '<|start_header_id|>system<|end_header_id|>\n\nToday Date: ' + today + '<|eot_id|>' -}}"
    "{%- for message in messages -%}"
    "{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' -}}"
    "{{- message.content | trim + '<|eot_id|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}{%- endif -%}"
)
INST = (
    "{{- bos_token -}}{%- for message in messages -%}"
    "{%- if message.role == 'user' -%}{{- '[INST] ' + message.content + ' [/INST]' -}}"
    "{%- elif message.role == 'assistant' -%}{{- ' ' + message.content | trim + eos_token -}}"
    "{%- else -%}{{- raise_exception('only user and assistant speak here') -}}{%- endif -%}{%- endfor -%}"
)


@dataclass(frozen=True)
class Family:
    """A pair of models: what writes each, and the chat that the tokenizer writes."""

    tower: Callable[[Path], None]
    llm: Callable[[Path], None]


def bytes_tokenizer(
    directory: Path,
    special: list[str],
    *,
    template: str | None,
    ordinary: tuple[str, ...] = (),
    first: str | None = None,
    **names: str,
) -> int:
    """Byte-level BPE; special tokens behind the vocabulary, as Llama-3 and Qwen have them. Returns its size."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    )
    bpe.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    bpe.add_tokens([AddedToken(token, normalized=False, special=False) for token in ordinary])
    bpe.post_processor = processors.ByteLevel(trim_offsets=False)
    if first:
        template_of = processors.TemplateProcessing(
            single=f"{first} $A", special_tokens=[(first, bpe.token_to_id(first))]
        )
        bpe.post_processor = processors.Sequence([bpe.post_processor, template_of])
    return save_tokenizer(directory, bpe, template, names)


def metaspace_tokenizer(directory: Path, *, template: str | None, scheme: str = "first") -> int:
    """BPE as SentencePiece has it: spaces are "▁", unknown characters are bytes, `<s>` begins every text."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    letters = sorted({*"".join(TEXTS).replace(" ", "▁").replace("\n", ""), *"▁[]INST/?!"})
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters, "▁t", "▁a"]
    merges = [("▁", "t"), ("▁", "a")]
    bpe = Tokenizer(
        models.BPE(
            {t: i for i, t in enumerate(tokens)}, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True
        )
    )
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    bpe.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    bpe.add_special_tokens([AddedToken(t, normalized=False) for t in ("<unk>", "<s>", "</s>")])
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return save_tokenizer(directory, bpe, template, names)


def save_tokenizer(directory: Path, tokenizer: Any, template: str | None, names: dict[str, str]) -> int:
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template, **names).save_pretrained(directory)
    return int(tokenizer.get_vocab_size(with_added_tokens=True))


def headers_tokenizer(directory: Path) -> int:
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    reserved = [f"<|reserved_special_token_{i}|>" for i in range(3)]
    return bytes_tokenizer(
        directory, special + reserved, template=HEADERS, first="<|begin_of_text|>",
        bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>",
    )  # fmt: skip


def chatml_tokenizer(directory: Path, template: str = CHATML, ordinary: tuple[str, ...] = ()) -> int:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return bytes_tokenizer(
        directory, special, template=template, ordinary=ordinary, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )


def bare_tokenizer(directory: Path) -> int:
    return bytes_tokenizer(directory, ["<|endoftext|>"], template=None, eos_token="<|endoftext|>")


SIZES: dict[str, Any] = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, initializer_range=0.2,
    max_position_embeddings=512,
)  # fmt: skip
VISION: dict[str, Any] = dict(
    hidden_size=24, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, patch_size=PATCH
)


def save_llm(config: Any, directory: Path) -> None:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(config).save_pretrained(directory)


def llama(directory: Path) -> None:
    from transformers import LlamaConfig

    size = headers_tokenizer(directory)
    save_llm(LlamaConfig(vocab_size=size, num_key_value_heads=2, eos_token_id=301, **SIZES), directory)


def qwen2(directory: Path) -> None:
    """Seven spare rows, tied."""
    from transformers import Qwen2Config

    size = chatml_tokenizer(directory, DEFAULT_SYSTEM)
    config = Qwen2Config(vocab_size=size + 7, num_key_value_heads=2, tie_word_embeddings=True, **SIZES)
    save_llm(config, directory)


def qwen3(directory: Path) -> None:
    """Heads wider than the hidden size says; `<think>` can be typed."""
    from transformers import Qwen3Config

    size = chatml_tokenizer(directory, THINKING, ("<think>", "</think>"))
    config = Qwen3Config(
        vocab_size=size + 2, num_key_value_heads=2, head_dim=16, tie_word_embeddings=True, **SIZES
    )
    save_llm(config, directory)


def qwen3_moe(directory: Path) -> None:
    from transformers import Qwen3MoeConfig

    size = chatml_tokenizer(directory)
    config = Qwen3MoeConfig(
        vocab_size=size, num_key_value_heads=2, head_dim=8, num_experts=4, num_experts_per_tok=2,
        moe_intermediate_size=16, output_router_logits=True, decoder_sparse_step=1, **SIZES,
    )  # fmt: skip
    save_llm(config, directory)


def gpt_neox(directory: Path) -> None:
    """No chat template at all."""
    from transformers import GPTNeoXConfig

    save_llm(GPTNeoXConfig(vocab_size=bare_tokenizer(directory), **SIZES), directory)


def gpt2(directory: Path) -> None:
    """Embeddings tied under a name that LLaVA does not know."""
    from transformers import GPT2Config

    size = bare_tokenizer(directory)
    save_llm(GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=4, n_positions=512), directory)


def mistral(directory: Path) -> None:
    """SentencePiece's ways, a window of attention, a template that refuses a system message."""
    from transformers import MistralConfig

    size = metaspace_tokenizer(directory, template=INST)
    save_llm(MistralConfig(vocab_size=size, num_key_value_heads=2, sliding_window=24, **SIZES), directory)


def clip(directory: Path, *, full: bool = False) -> None:
    from transformers import (
        CLIPConfig,
        CLIPImageProcessorPil,
        CLIPModel,
        CLIPTextConfig,
        CLIPVisionConfig,
        CLIPVisionModel,
    )

    torch.manual_seed(2)
    config = CLIPVisionConfig(image_size=SIDE, **VISION)
    if full:
        text = CLIPTextConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
        CLIPModel(CLIPConfig(text_config=text, vision_config=config, projection_dim=8)).save_pretrained(directory)
    else:
        CLIPVisionModel(config).save_pretrained(directory)
    crop = {"height": SIDE, "width": SIDE}
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=crop).save_pretrained(directory)


def siglip(directory: Path, *, full: bool = False) -> None:
    from transformers import (
        SiglipConfig,
        SiglipImageProcessorPil,
        SiglipModel,
        SiglipTextConfig,
        SiglipVisionConfig,
        SiglipVisionModel,
    )

    torch.manual_seed(3)
    config = SiglipVisionConfig(image_size=SIDE, **VISION)
    if full:
        text = SiglipTextConfig(
            vocab_size=50, hidden_size=24, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
        )
        SiglipModel(SiglipConfig(text_config=text, vision_config=config)).save_pretrained(directory)
    else:
        SiglipVisionModel(config).save_pretrained(directory)
    SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(directory)


def siglip2(directory: Path, *, full: bool = False) -> None:
    """NaFlex: pictures of any size, as flattened patches."""
    from transformers import (
        Siglip2Config,
        Siglip2ImageProcessorPil,
        Siglip2Model,
        Siglip2TextConfig,
        Siglip2VisionConfig,
        Siglip2VisionModel,
    )

    torch.manual_seed(4)
    patches = (SIDE // PATCH) ** 2
    config = Siglip2VisionConfig(num_patches=patches, **VISION)
    if full:
        text = Siglip2TextConfig(
            vocab_size=50, hidden_size=24, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
        )
        Siglip2Model(Siglip2Config(text_config=text, vision_config=config)).save_pretrained(directory)
    else:
        Siglip2VisionModel(config).save_pretrained(directory)
    Siglip2ImageProcessorPil(patch_size=PATCH, max_num_patches=patches).save_pretrained(directory)


FAMILIES = {
    "clip+llama": Family(clip, llama),
    "siglip+qwen2": Family(siglip, qwen2),
    "siglip2+qwen3": Family(siglip2, qwen3),
    "clip+qwen3_moe": Family(clip, qwen3_moe),
    "siglip+gpt_neox": Family(siglip, gpt_neox),
    "clip+mistral": Family(clip, mistral),
}


def write_base(family: Family, folder: Path, *, layer: int = -1) -> Path:
    """The base directory that the stage `base` makes of a family's directories."""
    from transformers import AutoModelForCausalLM

    from minivlm.files import write_json
    from minivlm.model.checkpoint import load_strictly
    from minivlm.model.fingerprint import write_fingerprint
    from minivlm.training.pretrained import bring_language_model, bring_vision_tower

    family.tower(folder / "brought_tower")
    family.llm(folder / "brought_llm")
    base = folder / "base"
    bring_vision_tower(folder / "brought_tower", base / "vision_tower")
    llm = folder / "brought_llm"
    bring_language_model(llm, llm, base / "llm", base / "tokenizer")
    write_json(base / "layout.json", {"vision_feature_layer": layer})
    write_fingerprint(load_strictly(AutoModelForCausalLM, base / "llm"), base, seed=0)
    return base

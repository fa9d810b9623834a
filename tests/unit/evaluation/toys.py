"""A tiny LLaVA directory with random weights, drawn pictures and tables: everything offline, in a second."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from minivlm.data.chat import BOS_TOKEN, CHAT_TEMPLATE, EOS_TOKEN, IMAGE_TOKEN, PAD_TOKEN, SPECIAL_TOKENS

SIZE, PATCH = 32, 8  # pixels; 16 image tokens
TEXTS = [
    "夕阳下的大海上有两只红色的帆船。",
    "请详细描述这张图片。",
    "请用一句话描述这张图片。",
    "草地上有三朵黄花。",
]


def picture(seed: int, size: int = SIZE) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def picture_bytes(seed: int) -> bytes:
    stream = io.BytesIO()
    picture(seed).save(stream, "PNG")
    return stream.getvalue()


def conversation(*texts: str) -> str:
    """A row's `conversations`: question, answer, question, answer …; the picture in the first question."""
    turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    turns[0]["content"] = f"<image>\n{turns[0]['content']}"
    return json.dumps(turns, ensure_ascii=False)


def write_table(path: Path, rows: list[tuple]) -> Path:
    """A Parquet file of (conversations, image_bytes[, scene]) rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ["conversations", "image_bytes", "scene"][: len(rows[0])]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))), path)
    return path


def write_llava(directory: Path, seed: int = 0) -> Path:
    """Save a random LLaVA with its processor: 2 + 2 layers, 16 image tokens, byte-level BPE."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.utils import logging

    logging.disable_progress_bar()
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = list(SPECIAL_TOKENS)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(TEXTS * 4, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD_TOKEN,
        bos_token=BOS_TOKEN,
        eos_token=EOS_TOKEN,
        extra_special_tokens={"image_token": IMAGE_TOKEN},
    )
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}
        ),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIZE,
        patch_size=PATCH,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        initializer_range=0.3,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        projector_hidden_act="linear",
        vision_feature_select_strategy="default",
        vision_feature_layer=-2,
        multimodal_projector_bias=False,
    )
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(config)
    with torch.no_grad():
        # Wide weights, so that random features differ between pictures enough to change what is written.
        model.model.multi_modal_projector.linear_1.weight.normal_(std=0.5)
        model.model.multi_modal_projector.linear_2.weight.normal_(std=0.5)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = 2, 0
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    return directory


def cost_of(**changes):
    """cost.json of a stage on a CPU without a meter."""
    from minivlm.config import Prices
    from minivlm.training.cost_report import Spent, cost_report
    from minivlm.training.energy import Energy
    from minivlm.training.peaks import Peak

    energy = Energy(None, None, "no energy meter of the processor: /sys has no RAPL package")
    spent = Spent(125.2, 10, 500, 9000, 10000, 8 * 10**12, 10**12, 0, 20, "bf16")
    prices = Prices(currency="CNY", cpu_hour=0.2, gpu_hour={"RTX 4090": 1.88})
    values = {"device_name": "AMD <EPYC>", "prices": prices, "peak": Peak(2e11, "measured here"), "energy": energy}
    return cost_report(spent, **(values | {"memory": {"process": 3 << 30}} | changes))

"""What stands on the loopback hub: a data set, CLIP tower, base LLM and tokenizer as the original's, all tiny."""

import json
import shutil
import zipfile
from pathlib import Path

DATASET, TOWER, LLM = "tiny/minimind-v_dataset", "tiny/clip-vit", "tiny/MiniMind2-V-PyTorch"
LAYERS, WIDTH, HEADS, KEY_VALUE_HEADS, VOCABULARY = 2, 48, 4, 2, 400
SIZE, PATCH = 32, 8
HEADS_CONFIG = {"num_attention_heads": HEADS, "rope_theta": 1e4}


def write_hub(root: Path) -> Path:
    """Fill ROOT/{models,datasets}/owner/name; the same bytes every time."""
    _write_data(root / "datasets" / DATASET)
    _write_tower(root / "models" / TOWER)
    _write_llm(root / "models" / LLM)
    return root


def _write_data(folder: Path) -> None:
    """pretrain_data.jsonl and sft_data.jsonl, each beside a zip of its pictures."""
    import pyarrow.parquet as pq

    from minivlm.data.scenes.build import build_scenes

    drawn = folder.parent / "drawn"
    build_scenes(
        drawn,
        seed=3,
        workers=1,
        train_pictures=240,
        sft_rows=240,
        heldout_pictures=1,
        compositional_pictures=1,
        size=64,
        jpeg_quality=90,
    )
    folder.mkdir(parents=True)
    for split in ("pretrain", "sft"):
        rows = pq.read_table(drawn / f"{split}.parquet").to_pylist()
        with (
            (folder / f"{split}_data.jsonl").open("w", encoding="utf-8") as lines,
            zipfile.ZipFile(folder / f"{split}_images.zip", "w", zipfile.ZIP_STORED) as pictures,
        ):
            for number, row in enumerate(rows):
                name = f"{number:06d}.jpg"
                pictures.writestr(zipfile.ZipInfo(f"{split}_images/{name}"), row["image_bytes"])
                line = {"conversations": json.loads(row["conversations"]), "image": name}
                lines.write(json.dumps(line, ensure_ascii=False) + "\n")
    shutil.rmtree(drawn)


def _write_tower(folder: Path) -> None:
    import torch
    from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(1)
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIZE,
        patch_size=PATCH,
    )
    CLIPVisionModel(config).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}).save_pretrained(
        folder
    )


def _write_llm(folder: Path) -> None:
    """llm_48.pth as the original's trainer saves it, in half precision, and its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(2)
    llm = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            intermediate_size=96,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=KEY_VALUE_HEADS,
            tie_word_embeddings=True,
        )
    )
    folder.mkdir(parents=True)
    torch.save({name: tensor.half() for name, tensor in llm.state_dict().items()}, folder / f"llm_{WIDTH}.pth")
    _write_tokenizer(folder)


def _write_tokenizer(folder: Path) -> None:
    """Byte-level BPE with the original's three special tokens, trained on a few sentences, full to the last id."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    texts = [
        f"夕阳下的大海上有{n}只{c}色的帆船，草地上开着{c}色的花，天空中飘着气球。"
        for n in "一两三四"
        for c in "红黄蓝白紫"
    ]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    missing = VOCABULARY - tokenizer.get_vocab_size()
    tokenizer.add_tokens([f"⟦{i}⟧" for i in range(missing)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=special[0],
        bos_token=special[1],
        eos_token=special[2],
        chat_template=(
            "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant<|im_end|>\n"
            "{% endif %}{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
            "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
        ),
    ).save_pretrained(folder)

"""A tiny base directory with random weights, and batches for it: everything offline, in a second."""

from dataclasses import dataclass
from pathlib import Path

import torch

from minivlm.files import write_json

SIZE, PATCH = 16, 8  # pixels; 4 image tokens
IMAGE_TOKENS = (SIZE // PATCH) ** 2
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>")
IMAGE_ID = 3
VOCABULARY = 272
MEAN, STD = (0.5, 0.4, 0.45), (0.25, 0.3, 0.2)
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for c in m.content %}{% if c.type == 'image' %}<image>\n{% else %}{{ c.text }}{% endif %}{% endfor %}"
    "{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_base(directory: Path, *, seed: int = 0, layer: int = -1, layers: int = 3) -> Path:
    """Save tokenizer/, vision_tower/, llm/ and layout.json, as the stage `base` does."""
    from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    write_tokenizer(directory / "tokenizer")
    vision = CLIPVisionConfig(
        hidden_size=24, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2,
        image_size=SIZE, patch_size=PATCH, hidden_act="quick_gelu",
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.2,
        tie_word_embeddings=True, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    tower = CLIPVisionModel(vision)
    tower.save_pretrained(directory / "vision_tower")
    image_processor().save_pretrained(directory / "vision_tower")
    LlamaForCausalLM(text).save_pretrained(directory / "llm")
    write_json(directory / "layout.json", {"vision_feature_layer": layer})
    return directory


def image_processor():
    """The PIL backend, cutting to SIZE."""
    from transformers import CLIPImageProcessorPil

    return CLIPImageProcessorPil(
        size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}, image_mean=MEAN, image_std=STD
    )


def write_tokenizer(directory: Path) -> None:
    """A tokenizer of bytes: four special tokens, then the 256 bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate([*SPECIAL, *alphabet])}, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=SPECIAL[0],
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        extra_special_tokens={"image_token": SPECIAL[3]},
        chat_template=TEMPLATE,
    ).save_pretrained(directory)


@dataclass(frozen=True)
class Batch:
    """What `minivlm.data.batches` gives; see there."""

    input_ids: torch.Tensor
    pixels: torch.Tensor
    picture_index: torch.Tensor
    supervised: torch.Tensor
    targets: torch.Tensor
    tokens: int
    features: torch.Tensor | None = None
    image_id: int = IMAGE_ID

    @property
    def image_places(self) -> torch.Tensor:
        return (self.input_ids == self.image_id).flatten().nonzero().squeeze(1)

    @property
    def count(self) -> int:
        return len(self.targets)

    @property
    def samples(self) -> int:
        return len(self.input_ids)

    @property
    def padded_tokens(self) -> int:
        return self.input_ids.numel()

    def to(self, device):
        moved = (self.input_ids, self.pixels, self.picture_index, self.supervised, self.targets)
        return Batch(*(tensor.to(device) for tensor in moved), self.tokens, image_id=self.image_id)


@dataclass(frozen=True)
class Row:
    """Token ids, which of them are supervised, and the numbers of the row's pictures."""

    ids: list[int]
    mask: list[bool]
    pictures: list[int]


def rows(number: int, seed: int = 0, pictures: int = 3) -> list[Row]:
    """Rows of differing lengths: some text, a picture, some text, an answer; every fourth without a picture."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for i in range(number):
        text = torch.randint(
            4, VOCABULARY, (int(torch.randint(6, 30, (1,), generator=generator)),), generator=generator
        )
        ids, mask, names = text.tolist(), [j >= 4 for j in range(len(text))], []
        if i % 4 != 3:
            ids[2:2], mask[2:2] = [IMAGE_ID] * IMAGE_TOKENS, [False] * IMAGE_TOKENS
            names = [(i * 5 + 1) % pictures]
        made.append(Row(ids, mask, names))
    return made


def picture(number: int) -> torch.Tensor:
    """(3, SIZE, SIZE) uint8."""
    generator = torch.Generator().manual_seed(1000 + number)
    return torch.randint(256, (3, SIZE, SIZE), generator=generator, dtype=torch.uint8)


def collate(some: list[Row], *, pad_to: int = 0) -> Batch:
    """Rows as a batch, padded on the right to the longest or to `pad_to`; each picture once."""
    length = max(pad_to, *(len(row.ids) for row in some))
    names = [name for row in some for name in row.pictures]
    distinct = sorted(set(names))
    ids = torch.zeros(len(some), length, dtype=torch.long)
    supervised, targets = [], []
    for i, row in enumerate(some):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
        for t in range(1, len(row.ids)):
            if row.mask[t]:
                supervised.append(i * length + t - 1)
                targets.append(row.ids[t])
    pixels = (
        torch.stack([picture(n) for n in distinct])
        if distinct
        else torch.zeros(0, 3, SIZE, SIZE, dtype=torch.uint8)
    )
    index = torch.tensor([distinct.index(name) for name in names], dtype=torch.long)
    return Batch(
        ids, pixels, index, torch.tensor(supervised), torch.tensor(targets), sum(len(row.ids) for row in some)
    )

"""A byte-level BPE tokenizer, trained on texts and saved as transformers loads it.

Merges stop at `longest_token` bytes and never cross a numeral: trained freely on captions, BPE makes whole phrases
such as 三座白色的房子 one token, whose number and colour a language model then cannot change one by one.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from minivlm.data.chat import BOS_TOKEN, CHAT_TEMPLATE, EOS_TOKEN, IMAGE_TOKEN, PAD_TOKEN, SPECIAL_TOKENS

NUMERALS = "0-9〇零一二两三四五六七八九十百千万亿"
# Digits of both scripts and line breaks stand alone; runs of Chinese, of letters (with the space before them) and
# of everything else are cut apart, as GPT-2's pattern does for English. A numeral is Chinese too, and 〇 is not a
# letter, so each run has to leave them out by name.
PIECES = (
    rf"[{NUMERALS}]|\n|[\p{{Han}}&&[^{NUMERALS}]]+"
    rf"| ?[\p{{L}}&&[^\p{{Han}}{NUMERALS}]]+|[^\p{{L}}\n{NUMERALS}]+"
)


def train_tokenizer(
    texts: Iterable[str], directory: Path, *, vocabulary: int, min_frequency: int, longest_token: int
) -> int:
    """Train on `texts`, write a tokenizer directory with the chat template; the number of its tokens.

    `longest_token` is in bytes (a Chinese character has three). The same texts give the same bytes. Fewer tokens
    than `vocabulary` come out when no merge occurs `min_frequency` times any more.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast
    from transformers.utils import logging

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=min_frequency,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=longest_token + 1,  # which the trainer takes for the first length not allowed
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    logging.set_verbosity_error()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD_TOKEN,
        bos_token=BOS_TOKEN,
        eos_token=EOS_TOKEN,
        extra_special_tokens={"image_token": IMAGE_TOKEN},
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(directory)
    return int(tokenizer.get_vocab_size())

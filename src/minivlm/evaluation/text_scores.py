"""Captions against references as strings: BLEU and chrF by sacrebleu.

Both are corpus scores from 0 to 100. A picture may have any number of references; BLEU counts an n-gram once it
is in any of them, chrF takes the closest.
"""

from collections.abc import Sequence
from itertools import zip_longest

BLEU_TOKENIZATION = "zh"  # sacrebleu's: every Chinese character is a token


def bleu(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus BLEU-4 (Papineni 2002) over Chinese characters, 0 to 100.

    `references[i]` are the references of `captions[i]`. ValueError when a caption has none.
    """
    from sacrebleu.metrics import BLEU

    metric = BLEU(tokenize=BLEU_TOKENIZATION)
    return float(metric.corpus_score(list(captions), _streams(captions, references)).score)


def chrf(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus chrF2 (Popović 2015): F-score of character 1- to 6-grams, 0 to 100. Otherwise as `bleu`."""
    from sacrebleu.metrics import CHRF

    return float(CHRF().corpus_score(list(captions), _streams(captions, references)).score)


def _streams(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """References as sacrebleu wants them: stream k holds the k-th reference of each caption, or None."""
    if len(captions) != len(references):
        raise ValueError(f"{len(captions)} captions, but references for {len(references)}")
    for position, texts in enumerate(references):
        if not texts:
            raise ValueError(f"caption {position} has no reference")
    return [list(stream) for stream in zip_longest(*references)]

"""CIDEr-D (Vedantam, Zitnick and Parikh 2015, section 5): how much a caption says what people say of this picture.

An n-gram weighs more the fewer pictures' references hold it, so that stock phrases earn little. The figure is
the one of the usual scorer (pycocoevalcap), which reports ten times the mean; people score near 1 to 2 against
each other.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

TOKENIZATION = "character"
ORDERS = 4  # n-grams of 1 to 4 tokens
SIGMA = 6.0  # tokens; width of the Gaussian penalty on a difference in length
SCALE = 10.0

_TOKEN = re.compile(r"[a-z0-9]+|[^\W_]")
Grams = list[dict[tuple[str, ...], float]]  # one mapping for each order


def tokens(text: str) -> list[str]:
    """Every Chinese character is a token, every run of Latin letters and digits is one; punctuation is dropped."""
    return _TOKEN.findall(text.lower())


def cider(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Mean CIDEr-D over pictures, 0 to 10; document frequencies are counted over these pictures' references.

    `references[i]` are all references of the picture that `captions[i]` describes. With a single picture every
    n-gram has weight log 1 = 0, and so has the score. ValueError when a caption has no reference.
    """
    if len(captions) != len(references):
        raise ValueError(f"{len(captions)} captions, but references for {len(references)}")
    if not captions:
        return 0.0
    counted = [[_grams(text) for text in texts] for texts in references]
    frequency: Counter[tuple[str, ...]] = Counter()
    for texts in counted:
        frequency.update({gram for grams in texts for order in grams for gram in order})
    weigh = _Weights(frequency, len(captions))
    scores = []
    for position, (caption, texts) in enumerate(zip(captions, counted, strict=True)):
        if not texts:
            raise ValueError(f"caption {position} has no reference")
        vectors = weigh(_grams(caption))
        scores.append(sum(_similarity(vectors, weigh(text)) for text in texts) / len(texts))
    return SCALE * sum(scores) / len(scores)


def _grams(text: str) -> Grams:
    """Counts of the 1- to 4-grams of a text."""
    words = tokens(text)
    return [dict(Counter(zip(*(words[i:] for i in range(n)), strict=False))) for n in range(1, ORDERS + 1)]


class _Weights:
    """tf-idf: an n-gram's count times log(pictures / pictures whose references hold it)."""

    def __init__(self, frequency: Counter[tuple[str, ...]], pictures: int) -> None:
        self.frequency, self.log_pictures = frequency, math.log(pictures)

    def __call__(self, grams: Grams) -> tuple[Grams, list[float], int]:
        """Weighted n-grams, the Euclidean norm of each order, and the number of tokens."""
        weighted = [
            {g: n * (self.log_pictures - math.log(max(1, self.frequency[g]))) for g, n in order.items()}
            for order in grams
        ]
        norms = [math.sqrt(sum(w * w for w in order.values())) for order in weighted]
        return weighted, norms, int(sum(grams[0].values()))


def _similarity(caption: tuple[Grams, list[float], int], reference: tuple[Grams, list[float], int]) -> float:
    """Cosine of the clipped weights, averaged over the orders, times the penalty on the difference in length."""
    penalty = math.exp(-((caption[2] - reference[2]) ** 2) / (2 * SIGMA**2))
    total = 0.0
    for a, b, norm_a, norm_b in zip(caption[0], reference[0], caption[1], reference[1], strict=True):
        if norm_a and norm_b:
            # min() is what the D adds: repeating a word beyond the reference earns nothing.
            total += sum(min(w, b[g]) * b[g] for g, w in a.items() if g in b) / (norm_a * norm_b)
    return penalty * total / ORDERS

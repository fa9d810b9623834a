"""Which runs of tokens are phrases, and which captions hold them, against plain Python."""

import random
from collections import Counter

import numpy as np

from minivlm.data.phrases import COMMONEST, LONGEST, RAREST, Phrases


def runs(caption):
    return {tuple(caption[i : i + n]) for n in range(1, LONGEST + 1) for i in range(len(caption) - n + 1)}


def captions_of(numbers, seed=0, tokens=12):
    rng = random.Random(seed)
    return [np.array([rng.randrange(tokens) for _ in range(rng.randrange(numbers))], np.int64) for _ in range(400)]


def test_each_caption_holds_the_common_runs_of_its_tokens_and_no_others():
    captions = captions_of(15)
    counts = Counter(run for caption in captions for run in runs(caption.tolist()))
    usual = {run for run, n in counts.items() if max(2, RAREST * 400) <= n <= COMMONEST * 400}
    found = Phrases.find(captions, 10**6)
    assert len(found.frequency) == len(usual)
    assert np.allclose(np.sort(found.frequency * 400), sorted(counts[run] for run in usual))
    for caption, held in zip(captions, found.held, strict=True):
        assert len(set(held.tolist())) == len(held) == len(runs(caption.tolist()) & usual)


def test_a_phrase_has_one_number_wherever_it_stands():
    captions = [np.array(each) for each in ([5, 6, 7], [1, 5, 6, 2], [9, 9], [8], [3])]
    first, second, other, *_ = (set(held.tolist()) for held in Phrases.find(captions, 100).held)
    assert len(first & second) == 3  # 5, 6 and the run of both; what a single caption holds is no phrase
    assert not other


def test_only_the_commonest_are_kept():
    captions = captions_of(15)
    all_of_them, few = Phrases.find(captions, 10**6), Phrases.find(captions, 10)
    assert len(few.frequency) == 10
    assert np.array_equal(few.frequency, all_of_them.frequency[:10])
    assert np.array_equal(few.frequency, np.sort(few.frequency)[::-1])


def test_the_order_of_tokens_counts():
    captions = [np.array(each) for each in ([1, 2], [2, 1], [1, 2], [2, 1], [3, 4], [3, 4])]
    one, two, again = (set(Phrases.find(captions, 100).held[i].tolist()) for i in (0, 1, 2))
    assert one == again != two


def test_captions_without_phrases_hold_none():
    found = Phrases.find([np.array([1, 2, 3]), np.array([4]), np.zeros(0, np.int64)], 100)
    assert len(found.frequency) == 0
    assert [len(held) for held in found.held] == [0, 0, 0]
    assert Phrases.find([], 100).held == []

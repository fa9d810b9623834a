"""BLEU, chrF and CIDEr-D against values worked out by hand."""

import math

import pytest

from minivlm.evaluation.cider import cider, tokens
from minivlm.evaluation.text_scores import bleu, chrf


def test_bleu_counts_chinese_characters():
    # 5 characters, reference 6: precisions 5/5, 4/4, 3/3, 2/2 and a brevity penalty of exp(1 - 6/5).
    assert bleu(["一只红色鸟"], [["一只红色鸟飞"]]) == pytest.approx(100 * math.exp(1 - 6 / 5))


def test_bleu_counts_a_latin_word_as_one_token():
    # golden 在 天 上 飞: five tokens against six, where single letters would make ten against eleven.
    assert bleu(["golden在天上飞"], [["golden在天上飞跑"]]) == pytest.approx(100 * math.exp(1 - 6 / 5))


def test_bleu_of_a_partial_match():
    # abcde against abcdx by characters: 4/5, 3/4, 2/3, 1/2; same length, no penalty.
    assert bleu(["天上有云飞"], [["天上有云飘"]]) == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)


def test_any_reference_may_match_and_their_number_may_vary():
    captions = ["夕阳下的大海上有帆船", "夜空下的草地"]
    references = [["白天的雪地上有房子", "夕阳下的大海上有帆船"], ["夜空下的草地"]]
    assert bleu(captions, references) == pytest.approx(100)
    assert chrf(captions, references) == pytest.approx(100)
    assert bleu(captions, [references[0][:1], references[1]]) < 60


def test_chrf_of_a_partial_match():
    # 三只鸟 against 三只鱼: 1-grams 2/3 on both sides, 2-grams 1/2, 3-grams 0; orders 4 to 6 do not occur.
    assert chrf(["三只鸟"], [["三只鱼"]]) == pytest.approx(100 * (2 / 3 + 1 / 2 + 0) / 3)


@pytest.mark.parametrize("metric", [bleu, chrf, cider])
def test_a_caption_without_reference_is_an_error(metric):
    with pytest.raises(ValueError, match="caption 1 has no reference"):
        metric(["天空", "大海"], [["天空"], []])
    with pytest.raises(ValueError, match="references for 1"):
        metric(["天空", "大海"], [["天空"]])


def test_cider_tokens_are_characters_words_and_numbers_without_punctuation():
    assert tokens("两只Golden狗，3 只猫。") == ["两", "只", "golden", "狗", "3", "只", "猫"]


def test_cider_of_a_small_case_worked_by_hand():
    # Two pictures; references 天云 and 天海; the first caption is 天云云, the second 天海.
    # Document frequencies: 天 in both pictures (weight log 2/2 = 0), 云, 海, 天云, 天海 in one (weight w = log 2).
    # Picture 1, 1-grams: caption (云: 2w), reference (云: w). min(2w, w) * w / (2w * w) = 1/2.
    #   2-grams: caption (天云: w, 云云: 2-gram in no reference: log 2 - log 1 = w), reference (天云: w).
    #   w * w / (sqrt(2) w * w) = 1/sqrt 2. No 3- or 4-grams in the reference: 0.
    #   Length 3 against 2: exp(-1 / 72).
    # Picture 2 is its reference: 1 for 1- and 2-grams, 0 for the longer ones: 2/4.
    first = (1 / 2 + 1 / math.sqrt(2)) / 4 * math.exp(-1 / 72)
    assert cider(["天云云", "天海"], [["天云"], ["天海"]]) == pytest.approx(10 * (first + 2 / 4) / 2)


def test_cider_of_the_reference_itself_is_ten_and_of_another_pictures_is_nothing():
    references = [["红色的帆船在海上"], ["草地边有三朵黄花"]]
    assert cider([r[0] for r in references], references) == pytest.approx(10)
    assert cider([r[0] for r in reversed(references)], references) == 0


def test_cider_averages_over_references():
    references = [["红色的帆船在海上", "草原广阔无垠无边"], ["三朵小小的黄花开"]]
    assert cider(["红色的帆船在海上", "三朵小小的黄花开"], references) == pytest.approx(10 * (1 / 2 + 1) / 2)


def test_cider_does_not_depend_on_the_order_of_pictures_and_references():
    captions = ["一只鸟在天上", "两只船", "海边有人"]
    references = [["一只鸟", "鸟在天上飞"], ["两只船在海上"], ["海边的人", "有人在海边"]]
    turned = [list(reversed(r)) for r in reversed(references)]
    assert cider(captions, references) == pytest.approx(cider(captions[::-1], turned))


def test_repeating_a_rare_word_earns_nothing_in_cider():
    references = [["一只红鸟在天上飞"], ["两只船在海上"]]
    plain = cider(["一只红鸟", "两只船在海上"], references)
    assert cider(["一只红鸟红鸟红鸟", "两只船在海上"], references) < plain


def test_phrases_that_every_picture_has_weigh_nothing_in_cider():
    references = [["图片里有猫"], ["图片里有狗"], ["图片里有鸟"]]
    assert cider(["图片里有"] * 3, references) == 0


def test_cider_of_empty_captions_is_zero():
    assert cider(["", "。"], [["天空"], ["大海"]]) == 0

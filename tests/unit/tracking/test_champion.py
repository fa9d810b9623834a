"""Which version takes the alias: a higher figure of the same name over the same pictures, and nothing else."""

import pytest

from minivlm.tracking.champion import Score, judge, score_of

CHAMPION = Score("attribute_recall", 0.9, "a" * 16)


@pytest.mark.parametrize(
    ("score", "champion", "its_score", "moves", "said"),
    [
        (Score("attribute_recall", 0.95, "a" * 16), "3", CHAMPION, True, "0.95, version 3 had 0.9"),
        (Score("attribute_recall", 0.9, "a" * 16), "3", CHAMPION, False, "0.9, it has the same"),
        (Score("attribute_recall", 0.8, "a" * 16), "3", CHAMPION, False, "0.8, it has 0.9"),
        (Score("attribute_recall", 0.95, "b" * 16), "3", CHAMPION, False, "on other held-out pictures"),
        (Score("cider", 9.0, "a" * 16), "3", CHAMPION, False, "by attribute_recall, this one by cider"),
        (Score("cider", 0.5, "b" * 16), "3", Score("cider", 0.4, "b" * 16), True, "became champion: cider 0.5"),
        (Score("attribute_recall", 0.1, "a" * 16), None, None, True, "there was none"),
        (Score("attribute_recall", 0.1, "a" * 16), "3", None, False, "no figure to compare with"),
        (None, "3", CHAMPION, False, "not judged"),
        (None, None, None, False, "not judged"),
    ],
    ids=[
        "higher", "equal", "lower", "other pictures", "other figure", "cider", "no champion", "champion without",
        "without", "without, no champion",
    ],
)  # fmt: skip
def test_the_alias_moves_for_a_higher_figure_over_the_same_pictures_alone(score, champion, its_score, moves, said):
    verdict = judge(score, champion, its_score)
    assert verdict.moves is moves
    assert said in verdict.why


def test_a_score_is_read_from_a_versions_tags_as_it_was_written():
    assert score_of(CHAMPION.tags() | {"git.dirty": "true"}) == CHAMPION
    for tags in ({}, {"attribute_recall": "good"}, {"attribute_recall": "nan", "heldout": "a"}):
        assert score_of(tags) is None

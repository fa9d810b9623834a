"""Where in a caption the page marks a mistake."""

import re

import pytest

from minivlm.data.scenes.world import Group, Truth
from minivlm.evaluation.page.marks import marked

COLOURS = {"红": "red", "蓝": "blue"}


def parse(text: str) -> Truth:
    """A parser of two skies and of "<number>只<colour>船" alone, quick to reason about."""
    sky = "sunset" if "夕阳" in text else "day" if "白天" in text else None
    if "船" not in text:
        return Truth(sky, None, ())
    before = text[: text.index("船")]
    colour = COLOURS.get(before[-1:])
    number = {"两": 2, "三": 3}.get(before[-3:-2]) if before[-2:-1] == "只" else None
    return Truth(sky, None, (Group("boat", number, colour),))


def mistake(attribute, stated, of=None):
    return {"attribute": attribute, "true": "?", "stated": stated, "of": of}


def say(mistake):
    return f"<{mistake['attribute']}>"


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (mistake("sky", "sunset"), '<mark title="&lt;sky&gt;">夕阳</mark>下有两只红船'),
        (mistake("colour", "red", "boat"), '夕阳下有两只<mark title="&lt;colour&gt;">红船</mark>'),
        (mistake("number", 2, "boat"), '夕阳下有<mark title="&lt;number&gt;">两只红船</mark>'),
        (mistake("kind", "boat", "boat"), '夕阳下有两只红<mark title="&lt;kind&gt;">船</mark>'),
        (mistake("colour", None, "boat"), "夕阳下有两只红船"),
        (mistake("sky", "night"), "夕阳下有两只红船"),
    ],
)
def test_the_shortest_stretch_that_states_the_mistake_is_marked(wrong, expected):
    assert marked("夕阳下有两只红船", [wrong], parse, say) == expected


def test_repeated_statements_are_all_marked_and_each_says_what_is_wrong_there():
    mistakes = [mistake("sky", "day"), mistake("colour", "red", "boat"), mistake("kind", "boat", "boat")]
    shown = marked("白天红船，白天", mistakes, parse, lambda m: m["attribute"])
    assert re.sub(r"</?mark[^>]*>", "", shown) == "白天红船，白天"
    assert re.findall(r'title="([^"]*)">([^<]*)', shown) == [
        ("sky", "白天"),
        ("colour", "红"),
        ("colour; kind", "船"),
        ("sky", "白天"),
    ]


def test_captions_stay_text():
    assert marked("<b>夕阳</b>", [mistake("sky", "sunset")], parse, say) == (
        '&lt;b&gt;<mark title="&lt;sky&gt;">夕阳</mark>&lt;/b&gt;'
    )
    assert marked("", [mistake("sky", "sunset")], parse, say) == ""

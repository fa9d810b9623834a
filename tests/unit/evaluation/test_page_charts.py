"""The page's charts: sound, as long and as high as the figures are, and said in words."""

from xml.etree import ElementTree

import pytest

from minivlm.evaluation.page.charts import Curves, bar_chart, line_chart, nice_ticks
from minivlm.evaluation.page.loss import Loss, loss_panels, read_curves

NOW = read_curves("step,loss,val_loss\n10,3.5,\n20,2.5,2.75\n30,,2.25\n")
LAST = read_curves("step,loss,val_loss\n10,4.5,4.25\n")


def test_charts_are_well_formed_and_say_what_they_show():
    curves = Curves([(1, 2.0), (2, 1.0)], [(2, 1.5)])
    for chart in (
        line_chart(curves, "sft", 'loss "falls" & ends', Curves([(1, 3.0)], [(1, 3.5)])),
        bar_chart({"sky": {"sft": (0.5, 0.25)}}, 'sky "half" & more'),
    ):
        root = ElementTree.fromstring(chart)
        assert root.get("role") == "img" and "&" in root.get("aria-label")
    assert line_chart(Curves([], [(1, float("nan"))]), "sft", "") == ""


def test_a_bar_is_as_long_as_its_share_and_guessing_is_marked_at_its_own():
    root = ElementTree.fromstring(bar_chart({"sky": {"pretrain": (0.947, 0.1), "sft": (0.25, 0.125)}}, ""))
    assert [(bar.get("class"), bar.get("style")) for bar in root.iter("i")] == [
        ("pretrain", "width:94.70%"),
        ("sft", "width:25.00%"),
    ]
    assert [tick.get("style") for tick in root.iter("b")] == ["left:10.00%", "left:12.50%"]
    assert [said.text for said in root.iter("em")] == ["95%", "25%"]


def test_points_lie_where_their_values_are():
    root = ElementTree.fromstring(line_chart(Curves([(0, 0.0), (100, 1.0)], []), "sft", ""))
    (training, _) = root.findall("polyline")
    (x0, y0), (x1, y1) = (tuple(map(float, point.split(","))) for point in training.get("points").split())
    lines = [float(line.get("y1")) for line in root.findall("line")]
    assert (y0, y1) == (max(lines), min(lines)), "0 and 1 are the lowest and the highest tick"
    assert x0 == float(root.find("line").get("x1")) and x1 == float(root.find("line").get("x2"))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.43, 3.7), (2.0, 2.0), (0, 0), (1234, 98765), (-1, 1)])
def test_ticks_are_few_and_enclose_the_values(low, high):
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low and ticks[-1] >= high
    assert 2 <= len(ticks) <= 8
    assert ticks == sorted(set(ticks))


def test_the_last_run_is_drawn_and_named_where_there_is_one_and_only_there():
    alone = loss_panels({"sft": Loss(NOW)})
    both = loss_panels({"sft": Loss(NOW, LAST, "shown before in this checkout")})
    assert "earlier" not in alone and "last run" not in alone
    assert both.count('class="line earlier') == 2 and both.count('class="dot earlier"') == 1
    assert "the last run (shown before in this checkout)" in both
    assert "went to 4.500, ending at 4.250 on the validation rows" in both


def test_the_axes_make_room_for_the_last_run_too():
    assert ">4.5<" in loss_panels({"sft": Loss(NOW, LAST, "x")})
    assert ">4.5<" not in loss_panels({"sft": Loss(NOW)})

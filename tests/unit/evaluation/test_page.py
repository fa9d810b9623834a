"""The report page: complete, self-contained, safe against what captions may hold."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from PIL import Image

from minivlm.errors import UserError
from minivlm.evaluation.page.charts import bar_chart, line_chart, nice_ticks
from minivlm.evaluation.page.figures import attributes, cards, table
from minivlm.evaluation.page.style import CSS
from minivlm.evaluation.page.tables import captions, cost, data, duration
from minivlm.evaluation.report import write_report
from minivlm.paths import Paths
from tests.unit.evaluation.toys import picture

SCENE_TREE = {
    "attribute_recall": 0.94,
    "shuffled_attribute_recall": 0.21,
    "exact_scene": 0.7,
    "shuffled_exact_scene": 0.0,
    "image_gap": 1.25,
    "shuffled_image_gap": 0.01,
    "chrf": 55.0,
    "shuffled_chrf": 20.0,
    "by_attribute": {"sky": 0.9, "number": 0.8},
    "shuffled_by_attribute": {"sky": 0.2, "number": 0.1},
}
METRICS = {"pretrain": {"heldout": SCENE_TREE}, "sft": {"heldout": SCENE_TREE, "compositional": SCENE_TREE}}


class Outside(HTMLParser):
    """Collects what a page loads or runs."""

    def __init__(self):
        super().__init__()
        self.loads, self.scripts = [], 0

    def handle_starttag(self, tag, attrs):
        self.loads += [value for name, value in attrs if name in ("src", "href", "srcset")]
        self.scripts += tag == "script"


@pytest.fixture
def reports(tmp_path):
    """Reports of a reproduction, as the stages write them."""
    paths = Paths(tmp_path)
    for folder in (paths.reports("evaluate"), paths.reports("sft"), paths.data / "eval_images"):
        folder.mkdir(parents=True)
    picture(0, 600).save(paths.data / "eval_images" / "bird.png")
    entry = {
        "file": "bird.png",
        "title": "鸟",
        "pretrain": {"question": "?", "caption": "<script>alert(1)</script>"},
        "sft": {"question": "?", "caption": "一只鸟"},
    }
    (paths.reports("evaluate") / "metrics.json").write_text(json.dumps(METRICS))
    (paths.reports("evaluate") / "captions.json").write_text(json.dumps([entry]))
    (paths.reports("sft") / "loss.csv").write_text(
        "step,loss,learning_rate,val_loss\n10,3.5,0.1,\n20,2.5,0.1,2.75\n30,,0.1,2.25\n"
    )
    return paths


def test_the_page_loads_nothing_from_outside_and_runs_nothing(reports):
    page = write_report(reports).read_text(encoding="utf-8")
    outside = Outside()
    outside.feed(page)
    assert outside.loads and all(value.startswith("data:image/") for value in outside.loads)
    assert outside.scripts == 0
    assert "@import" not in page and not re.search(r"url\((?!['\"]?data:)", page)
    assert "&lt;script&gt;" in page


def test_the_style_sheet_is_sound():
    assert CSS.count("{") == CSS.count("}")
    assert all(line.count('"') % 2 == 0 for line in CSS.splitlines()), "a string over two lines voids its rule"
    used, defined = set(re.findall(r"var\((--[a-z-]+)\)", CSS)), set(re.findall(r"(--[a-z-]+):", CSS))
    assert used == defined


def test_large_pictures_are_embedded_small(reports):
    page = write_report(reports).read_text(encoding="utf-8")
    (encoded,) = re.findall(r"data:image/jpeg;base64,([^\"]+)", page)
    assert max(Image.open(io.BytesIO(base64.b64decode(encoded))).size) == 480


def test_what_has_not_been_made_is_left_out(reports):
    page = write_report(reports).read_text(encoding="utf-8")
    assert "<h2>Loss</h2>" in page
    assert "<h2>Cost</h2>" not in page and "<h2>Data</h2>" not in page


def test_the_same_reports_give_the_same_page(reports):
    assert write_report(reports).read_bytes() == write_report(reports).read_bytes()


def test_without_metrics_the_user_is_told_what_to_run(tmp_path):
    with pytest.raises(UserError, match="dvc repro"):
        write_report(Paths(tmp_path))


def test_loss_curves_name_first_and_last_loss_and_skip_empty_cells(reports):
    page = write_report(reports).read_text(encoding="utf-8")
    assert "training loss from 3.500 to 2.500, ending at 2.250 on the validation rows" in page
    assert page.count("<circle") == 2


def test_headlines_show_the_figure_and_what_guessing_earns():
    shown = cards(METRICS)
    assert "94.0%" in shown and "guessing earns 21.0%" in shown
    assert "1.25 <small>nats</small>" in shown
    assert "chrF" not in shown, "with scenes there are better headlines"
    assert cards({}) == table({}) == attributes({}) == ""


def test_the_table_holds_only_figures_that_were_measured():
    shown = table({"sft": {"heldout": {"cider": 0.812, "shuffled_cider": 0.051}}})
    assert "CIDEr-D" in shown and "0.81<small>guessing 0.05</small>" in shown
    assert "Attribute recall" not in shown


def test_charts_are_well_formed_and_say_what_they_show():
    for chart in (
        line_chart([(1, 2.0), (2, 1.0)], [(2, 1.5)], "sft", 'loss "falls" & ends'),
        bar_chart({"sky": {"sft": (0.5, 0.25)}}, 'sky "half" & more'),
    ):
        root = ElementTree.fromstring(chart)
        assert root.get("role") == "img" and "&" in root.get("aria-label")
    assert line_chart([], [(1, float("nan"))], "sft", "") == ""


def test_a_bar_is_as_long_as_its_share():
    bars = ElementTree.fromstring(bar_chart({"sky": {"sft": (0.25, 0.1)}}, "")).findall("rect")
    track, bar, tick = bars
    assert float(bar.get("width")) == pytest.approx(0.25 * float(track.get("width")), abs=0.1)
    assert float(tick.get("x")) == pytest.approx(70 + 0.1 * float(track.get("width")) - 1, abs=0.1)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.43, 3.7), (2.0, 2.0), (0, 0), (1234, 98765), (-1, 1)])
def test_ticks_are_few_and_enclose_the_values(low, high):
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low and ticks[-1] >= high
    assert 2 <= len(ticks) <= 8
    assert ticks == sorted(set(ticks))


def test_captions_of_scenes_list_what_is_wrong():
    said = {
        "caption": "两只蓝船",
        "mistakes": [
            {"attribute": "colour", "true": "red", "stated": "blue", "of": "boat"},
            {"attribute": "sky", "true": "day", "stated": None},
            {"attribute": "kind", "true": None, "stated": "house", "of": "house"},
            {"attribute": "number", "true": None, "stated": 2, "of": "house"},
            {"attribute": "kind", "true": "bird", "stated": None, "of": "bird"},
            {"attribute": "colour", "true": "white", "stated": None, "of": "bird"},
            {"attribute": "number", "true": 3, "stated": None, "of": "boat"},
        ],
    }
    right = {"caption": "两只红船", "mistakes": []}
    shown = captions([{"file": "x", "title": "船", "pretrain": said, "sft": right}], {})
    assert "colour of boat: blue, not red" in shown
    assert "sky not mentioned: day" in shown and "number of boat not mentioned: 3" in shown
    assert "house is not there" in shown and "bird not mentioned" in shown
    assert "number of house" not in shown and "colour of bird" not in shown, "said once for the whole thing"
    assert shown.count("all right") == 1


def test_data_and_cost_are_shown_as_people_read_them():
    validation = {
        "pretrain": {"present": True, "rows": 12000, "accepted": 11999, "rejected": 1, "expectations": []}
    }
    assert "11,999" in data(validation, {"pretrain.tokens": 812344.0})
    assert "812,344" in data(validation, {"pretrain.tokens": 812344.0})
    report = {
        "device": "RTX 4090", "seconds": 125.2, "currency": "CNY", "money": None, "samples": 5,
        "samples_per_second": 2.0, "tokens_per_second": 3.0, "projected": {"seconds": 1.0, "money": 0.0005},
    }  # fmt: skip
    shown = cost({"sft": report})
    assert "2 min 5 s" in shown and "no price known" in shown and "1.0 s, 0.0005 CNY" in shown


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.42, "0.4 s"), (48.3, "48 s"), (59.9, "60 s"), (4800, "1 h 20 min")]
)
def test_durations_are_said_in_words(seconds, said):
    assert duration(seconds) == said

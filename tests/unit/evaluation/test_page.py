"""The report page: complete, self-contained, safe against what captions may hold."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from PIL import Image

from minivlm.config import Prices
from minivlm.errors import UserError
from minivlm.evaluation.page.charts import bar_chart, line_chart, nice_ticks
from minivlm.evaluation.page.figures import attributes, cards, table
from minivlm.evaluation.page.style import CSS
from minivlm.evaluation.page.tables import captions, cost, data, duration
from minivlm.evaluation.report import write_report
from minivlm.paths import Paths
from minivlm.training.cost_report import Spent, cost_report
from minivlm.training.energy import Energy
from minivlm.training.peaks import Peak
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


def test_data_are_shown_as_people_read_them():
    validation = {
        "pretrain": {"present": True, "rows": 12000, "accepted": 11999, "rejected": 1, "expectations": []}
    }
    assert "11,999" in data(validation, {"pretrain.tokens": 812344.0})
    assert "812,344" in data(validation, {"pretrain.tokens": 812344.0})


def cost_of(**changes):
    """cost.json of a stage on a CPU without a meter."""
    energy = Energy(None, None, "no energy meter of the processor: /sys has no RAPL package")
    spent = Spent(125.2, 10, 500, 9000, 10000, 8 * 10**12, 10**12, 0, 20, "bf16")
    prices = Prices(currency="CNY", cpu_hour=0.2, gpu_hour={"RTX 4090": 1.88})
    values = {"device_name": "AMD <EPYC>", "prices": prices, "peak": Peak(2e11, "measured here"), "energy": energy}
    return cost_report(spent, **(values | {"memory": {"process": 3 << 30}} | changes))


def test_cost_is_shown_with_its_projections_and_why_energy_is_missing():
    shown = cost({"sft": cost_of()})
    for text in ("2 min 5 s", "AMD &lt;EPYC&gt;", "0.007 CNY", "not measured", "has no RAPL package", "9 TFLOP",
                 "10.0%", "3.00 GiB", "measured here", "on an RTX 3090", "on an H200"):  # fmt: skip
        assert text in shown, text
    there = cost_of()["projected"]["RTX 4090"]
    assert f"{duration(there['seconds_low'])} to {duration(there['seconds_high'])}" in shown


def test_measured_energy_and_a_gpus_memory_are_shown():
    memory = {"process": 1 << 30, "gpu_allocated": 2 << 30, "gpu_reserved": 5 << 30}
    shown = cost(
        {
            "sft": cost_of(
                energy=Energy(12_520.0, "NVML: total energy counter of 1 GPU board", seconds=125.2), memory=memory
            )
        }
    )
    assert "12.5 kJ<small>100 W on average" in shown and "NVML" in shown and "GPU 5.00 GiB" in shown


def test_the_base_shows_both_of_its_trainings():
    part = {"samples_per_second": 321.0, "tokens_per_second": 4.0, "padding_share": 0.25}
    base = {key: value for key, value in cost_of().items() if key not in part}
    shown = cost({"base": base | {"parts": {"vision_tower": part, "llm": part}}, "sft": cost_of()})
    assert "vision tower 321" in shown and "language model 25.0%" in shown
    assert shown.index(">Base<") < shown.index(">SFT<")


def test_a_cost_of_an_older_version_is_left_out():
    assert cost({"pretrain": {"device": "CPU", "seconds": 1.0}}) == ""
    assert ">Pretrain<" not in cost({"pretrain": {"device": "CPU"}, "sft": cost_of()})


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0004, "under 1 ms"),
        (0.042, "42 ms"),
        (0.42, "0.4 s"),
        (48.3, "48 s"),
        (59.9, "60 s"),
        (4800, "1 h 20 min"),
    ],
)
def test_durations_are_said_in_words(seconds, said):
    assert duration(seconds) == said

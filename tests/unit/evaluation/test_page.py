"""The report page: complete, self-contained, safe against what captions may hold."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from minivlm.errors import UserError
from minivlm.evaluation.page.captions import captions
from minivlm.evaluation.page.document import STYLE
from minivlm.evaluation.page.figures import attributes, cards, table
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
    """Collects what a page loads or runs, and what it says of its pictures and tables."""

    def __init__(self, page):
        super().__init__()
        self.loads, self.scripts, self.pictures, self.headings, self.ids = [], 0, [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.loads += [value for name, value in attrs if name in ("src", "href", "srcset")]
        self.scripts += tag == "script"
        if tag == "img":
            self.pictures.append(values.get("alt"))
        if tag == "svg" or values.get("role") == "img":
            self.pictures.append(values.get("aria-label"))
        if tag == "th":
            self.headings.append(values.get("scope"))
        self.ids += [values["id"]] if "id" in values else []


class Tags(HTMLParser):
    """Every tag of a page with the names of its attributes."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, [name for name, _ in attrs]))


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
    outside = Outside(page)
    assert outside.loads and all(value.startswith(("data:", "#")) for value in outside.loads)
    assert outside.scripts == 0
    assert "@import" not in page and not re.search(r"url\((?!['\"]?data:)", page)
    assert "&lt;script&gt;" in page


BAD = '"><script>alert(1)</script><img src=x onerror=alert(2)><b title="'


def spoilt(value):
    """A report with every text in it made hostile; a name of a file, an attribute or a stage stays."""
    kept = ("file", "attribute", "of", "true", "stated")
    if isinstance(value, dict):
        return {name: each if name in kept else spoilt(each) for name, each in value.items()}
    if isinstance(value, list):
        return [spoilt(each) for each in value]
    return value + BAD if isinstance(value, str) else value


def test_no_text_of_a_report_becomes_markup(reports):
    folder = reports.reports("evaluate")
    wrong = {"attribute": "colour", "true": "red", "stated": "blue", "of": "boat"}
    entry = {
        "file": "bird.png",
        "title": "鸟",
        "pretrain": {"question": "?", "caption": "蓝船", "mistakes": [wrong]},
        "sft": {"question": "?", "caption": "一只鸟"},
    }
    sample = {"picture": "heldout:1", "references": ["鸟"], "pretrain": entry["pretrain"], "sft": entry["sft"]}
    seen = {"file": "bird.png", "caption": "一只鸟", "region": [0, 0, 1, 1]}
    look = {"layer": 1, "layers": 1, "grid": [1, 1], "picture_share": [0.5], "pictures": [seen]}
    found = []
    for change in (lambda value: value, spoilt):
        told = {"captions": change([entry]), "samples": change([sample]), "attention": change(look)}
        shown = told["attention"]["pictures"][0]
        shown["words"] = [{"start": 2, "end": len(shown["caption"]), "weights": [0.5]}]  # the last one is chosen
        for name, value in told.items():
            (folder / f"{name}.json").write_text(json.dumps(value))
        page = write_report(reports).read_text(encoding="utf-8")
        found.append(Tags(page).found)
    assert found[0] == found[1], "tags and attributes are those of harmless reports"
    assert page.count("&lt;script&gt;") >= 10 and page.count('class="look"') == 1


def test_the_style_sheet_is_sound():
    assert STYLE.count("{") == STYLE.count("}")
    assert all(line.count('"') % 2 == 0 for line in STYLE.splitlines()), "a string over two lines voids its rule"
    used, defined = set(re.findall(r"var\((--[a-z-]+)\)", STYLE)), set(re.findall(r"(--[a-z-]+):", STYLE))
    assert used <= defined


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
    assert "✗ colour of the boat: said blue, is red" in shown
    assert "sky: not mentioned, is day" in shown and "number of boats: not mentioned, is 3" in shown
    assert "house: not in the picture" in shown and "bird: not mentioned" in shown
    assert '<mark title="colour of the boat: said blue, is red">蓝船</mark>' in shown
    assert "number of house" not in shown and "colour of bird" not in shown, "said once for the whole thing"
    assert shown.count("✓ all scored facts right") == 1


def test_every_picture_has_an_alternative_and_every_heading_of_a_table_a_scope(reports):
    outside = Outside(write_report(reports).read_text(encoding="utf-8"))
    assert len(outside.pictures) >= 3 and all(outside.pictures)
    assert outside.headings and set(outside.headings) == {"row", "col"}


def test_the_contents_lead_to_every_section_and_no_section_is_empty(reports):
    page = write_report(reports).read_text(encoding="utf-8")
    outside = Outside(page)
    titled = re.findall(r'<section id="([a-z]+)"><h2>', page)
    assert [value[1:] for value in outside.loads if value.startswith("#")] == titled
    assert {"captions", "scores", "loss"} <= set(titled)
    for section in re.findall(r"<section.*?</section>", page, re.DOTALL):
        bare = re.sub(r"<h2>.*?</h2>(<p class=\"note\">.*?</p>)?", "", section, count=1)
        assert len(re.sub(r"<[^>]*>", "", bare).strip()) > 10, section[:100]


def test_chinese_is_said_to_be_chinese_and_english_english(reports):
    page = write_report(reports).read_text(encoding="utf-8")
    assert '<html lang="en">' in page
    assert re.search(r'<table lang="zh-CN">.*?一只鸟.*?</table>', page, re.DOTALL)


@pytest.mark.parametrize(
    ("file", "content", "section"),
    [
        ("reports/evaluate/captions.json", "[{", "captions"),
        ("reports/evaluate/captions.json", '[{"file": "bird.png"}]', "captions"),
        ("reports/evaluate/attention.json", '{"pictures": [{"file": "bird.png"}]}', "attention"),
        ("reports/evaluate/attention.json", "[]", "attention"),
        ("reports/sft/loss.csv", "step,loss\nten,3.5\n", "loss"),
        ("reports/sft/loss.csv", b"\xff\xfe", "loss"),
        ("reports/validate/sft.json", '{"rows": 9, "expectations": 3}', "data"),
        ("reports/tokenize/metrics.json", '{"sft": {"rows": 3}}', "data"),
        ("reports/sft/cost.json", '{"energy": 3, "hours": "1"}', "cost"),
        ("dvc.yaml", "stages: [", "pipeline"),
        ("artifacts/download/heldout.parquet", "no Parquet", None),
        ("data/eval_images/bird.png", b"\x89PNG", None),
    ],
)
def test_what_is_damaged_is_left_out_with_a_line_and_the_rest_is_shown(reports, capsys, file, content, section):
    path = reports.root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    page = write_report(reports).read_text(encoding="utf-8")
    ids = Outside(page).ids
    assert section not in ids and {"figures", "scores", "captions", "loss"} - {section} <= set(ids)
    said = capsys.readouterr().out
    assert "left out of the page" in said and "Traceback" not in said and "Left out: " in page


def test_damaged_metrics_are_one_clear_line(reports):
    (reports.reports("evaluate") / "metrics.json").write_text("{")
    with pytest.raises(UserError, match=r"metrics\.json: damaged"):
        write_report(reports)

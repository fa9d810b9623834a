"""The page's attention overlays, data facts and gallery, and its Markdown twin."""

import base64
import io
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from minivlm.evaluation.gallery import EACH, read_gallery
from minivlm.evaluation.page.attention import DARKEST, WORDS, alpha, overlays
from minivlm.evaluation.page.data import Sample, facts, gallery
from minivlm.evaluation.page.document import STYLE
from minivlm.evaluation.page.html import Row, table
from minivlm.evaluation.page.markdown import markdown
from minivlm.evaluation.reports import read_reports
from minivlm.paths import Paths
from tests.unit.evaluation.toys import conversation, picture_bytes, write_table

LOOK = {
    "stage": "sft",
    "layers": 4,
    "layer": 3,
    "grid": [2, 2],
    "picture_share": [0.1, 0.2, 0.45, 0.3],
    "pointing": {"pictures": 56, "words": 1081, "hits": [0.1, 0.2, 0.94, 0.9], "chance": 0.13},
    "pictures": [
        {
            "file": "a.png",
            "caption": "白色的<帆船",
            "region": [0.25, 0.0, 0.75, 1.0],
            "words": [
                {"start": 0, "end": 1, "weights": [0.0, 0.1, 0.1, 0.4]},
                {"start": 4, "end": 6, "weights": [0.2, 0.1, 0.0, 0.0]},
            ],
        }
    ],
}
IMAGES = {"a.png": "data:image/png;base64,"}


def test_each_word_is_a_radio_button_with_an_overlay_of_its_own():
    html = overlays(LOOK, IMAGES)
    assert re.findall(r"<label[^>]*><input[^>]*?( checked)?>([^<]*)</label>", html) == [
        (" checked", "白"),
        ("", "帆船"),
    ]
    assert html.count('class="shade"') == 2 and html.count('type="radio" name="look-0"') == 2
    assert "色的&lt;<label" in html, "what stands between the words is there, as text"
    assert "left:25.00%;top:0.00%;width:50.00%;height:100.00%" in html
    for number in range(1, WORDS + 1):
        assert f"label:nth-of-type({number}) input:checked) .shade:nth-of-type({number})" in STYLE


def test_the_note_says_what_was_measured_and_what_attention_is_not():
    html = overlays(LOOK, IMAGES)
    assert "layer 3 of 4" in html and "45% of these words" in html
    assert "1,081 words" in html and "in 94% (by chance 13%)" in html
    assert "not why a word was chosen" in html
    assert "by chance" not in overlays(LOOK | {"pointing": None}, IMAGES)


def test_without_pictures_there_is_no_overlay():
    assert overlays({"stage": "sft", "pictures": [], "why": "no square"}, IMAGES) == ""
    assert overlays(LOOK, {}) == overlays({}, IMAGES) == ""


def test_the_overlay_is_clear_where_the_word_looks_most_and_darkest_where_it_does_not():
    encoded = alpha([0.0, 0.1, 0.2, 0.4], [2, 2]).removeprefix("data:image/png;base64,")
    image = Image.open(io.BytesIO(base64.b64decode(encoded)))
    assert image.mode == "LA" and image.getchannel("L").getextrema() == (0, 0)
    last = image.width - 1
    darkness = [image.getpixel((x, y))[1] / 255 for y in (0, last) for x in (0, last)]
    assert darkness == pytest.approx([DARKEST, DARKEST * 0.75, DARKEST * 0.5, 0], abs=0.05)


def test_the_overlay_has_no_edge_between_patches():
    encoded = alpha([0.0, 0.4, 0.1, 0.0] * 4, [4, 4]).removeprefix("data:image/png;base64,")
    darkness = Image.open(io.BytesIO(base64.b64decode(encoded))).getchannel("A")
    row = [darkness.getpixel((x, darkness.height // 2)) for x in range(darkness.width)]
    bends = [abs(row[i - 1] - 2 * row[i] + row[i + 1]) for i in range(1, len(row) - 1)]
    assert max(bends) <= 8, "a browser's straight lines bend by 27 at a patch's middle"
    assert len(encoded) < 3000


def test_the_counts_of_tokenize_are_a_table_with_separators():
    counted = {
        "rows": 12000,
        "tokens": 1493053,
        "supervised_tokens": 636501,
        "truncated_rows": 3,
        "validation_rows": 233,
        "length": {"min": 86, "median": 114, "p95": 180, "max": 225},
    }
    gate = {"present": True, "rows": 12000, "accepted": 11999, "rejected": 1,
            "expectations": [{"success": True}, {"success": False}]}  # fmt: skip
    html = facts({"sft": gate}, {"sft": counted})
    assert "11,999" in html and "1 of 2" in html
    assert "1,493,053" in html and "636,501 <small>43%</small>" in html
    assert html.count('<th scope="col"') == 5 + 10
    assert facts({}, {}) == ""


def test_a_narrow_screen_can_label_every_cell():
    html = table("x", ["a<br>b", "c"], [Row("r", ["1", ""])], caption="t")
    assert '<td class="number" data-label="a b"><div>1</div></td><td class="number"></td>' in html
    assert '<th scope="row">r</th>' in html and "<caption" in html


def test_the_gallery_shows_pictures_with_what_is_said_of_them():
    html = gallery({"sft": [Sample("sft:3", "data:image/jpeg;base64,AA", "三只<鸟")]})
    assert 'alt="drawn scene of row sft:3"' in html and "三只&lt;鸟" in html and 'lang="zh-CN"' in html
    assert gallery({}) == ""


def rows(first, count, scene=True):
    made = [(conversation("?", f"说{i}"), picture_bytes(i), "{}") for i in range(first, first + count)]
    return made if scene else [row[:2] for row in made]


@pytest.fixture
def drawn(tmp_path):
    """Tables of drawn rows; sft shows pretrain's pictures and two more, heldout's row 0 was rejected."""
    paths = Paths(tmp_path)
    write_table(paths.table("pretrain"), rows(0, 8, scene=False))
    write_table(paths.table("sft"), rows(0, 10, scene=False))
    write_table(paths.table("heldout"), rows(20, 3) + rows(21, 1))
    accepted = {"pretrain": range(8), "sft": range(10), "heldout": range(1, 4)}
    for split, numbers in accepted.items():
        paths.accepted(split).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"row": pa.array(numbers, pa.int64())}), paths.accepted(split))
    return paths


def test_the_gallery_takes_accepted_rows_and_each_picture_once(drawn):
    found = read_gallery(drawn)
    assert [sample.row for sample in found["pretrain"]] == [f"pretrain:{i}" for i in range(EACH)]
    assert [sample.row for sample in found["sft"]] == ["sft:6", "sft:7", "sft:8", "sft:9"]
    assert [(sample.row, sample.text) for sample in found["heldout"]] == [
        ("heldout:1", "说21"),
        ("heldout:2", "说22"),
    ]
    assert "compositional" not in found


def test_pictures_that_were_not_drawn_stay_where_they_are(drawn):
    write_table(drawn.table("heldout"), rows(20, 4, scene=False))
    assert read_gallery(drawn) == {}


def test_without_artifacts_there_is_no_gallery(tmp_path):
    assert read_gallery(Paths(tmp_path)) == {}


def test_markdown_holds_no_time_and_escapes_what_captions_hold(tmp_path):
    paths = Paths(tmp_path)
    mistake = {"attribute": "sky", "true": "day", "stated": "night"}
    entry = {
        "file": "a.png",
        "title": "鸟|",
        "pretrain": {"caption": "<img src=x>|*a*", "mistakes": [mistake]},
        "sft": {"caption": "一只鸟"},
    }
    tree = {"attribute_recall": 0.94, "shuffled_attribute_recall": 0.21, "by_attribute": {"sky": 0.9}}
    files = {
        "evaluate/metrics.json": json.dumps({"sft": {"heldout": tree}}),
        "evaluate/captions.json": json.dumps([entry]),
        "sft/loss.csv": "step,loss,val_loss\n10,3.5,3.25\n20,2.5,\n",
        "sft/metrics.json": json.dumps({"train_loss": 2.6, "tokens": 12345}),
        "sft/cost.json": json.dumps({"hours": 1.5, "device": "SECRET CPU"}),
    }
    for name, text in files.items():
        (tmp_path / "reports" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "reports" / name).write_text(text)
    text = markdown(read_reports(paths))
    assert "| SFT | 20 | 12,345 | 2.600 | 3.250 |" in text, "the training loss is the one that metrics.json has"
    assert "94.0% (21.0%)" in text and "| sky | 90.0% |" in text
    assert "<br>✗ sky: said night, is day" in text
    assert "<img src=x>" not in text and "SECRET" not in text and "1 h" not in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in lines) and '<img src="../data/eval_images/a.png"' in text
    assert "## Data" not in text and "mermaid" not in text, "what is not there is left out"
    assert "鸟&#124;" in text and "&#42;a&#42;" in text

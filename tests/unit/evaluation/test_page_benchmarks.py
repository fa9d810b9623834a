"""The report's benchmarks: bars and lines of what was measured, nothing where nothing was."""

import json
import re
from xml.etree import ElementTree

import pytest

from minivlm.evaluation.page import benchmarks
from minivlm.evaluation.page.style import CSS
from minivlm.evaluation.report import write_report
from minivlm.paths import Paths

ABOUT = {
    "machine": {"cpu": "A <fast> CPU", "cores": 2, "gpu": None},
    "versions": {"torch": "2.13.0", "minivlm": "0123456789abcdef"},
}
PARTS = {"decode": 1.0, "tower": 5.0, "llm_forward": 2.0, "backward": 1.5, "optimizer": 0.5}
STEP = ABOUT | {
    "sft": {
        "ratio": 12.34,
        "samples_per_second": 6.17,
        "reference_samples_per_second": 0.5,
        "parts": {"ours": PARTS, "reference": {name: 10 * ms for name, ms in PARTS.items()}},
    },
    "schedule": None,
}
ROWS = ABOUT | {
    "tokenize": [
        {"rows": rows, "seconds": 1.0, "rows_per_second": 2000.0, "peak_memory_bytes": 300 << 20}
        for rows in (1_000_000, 10_000)
    ]
}
LOADER = ABOUT | {
    "loading": [
        {"stage": "sft", "workers": 0, "rows_per_second": 50.0, "consumed_per_second": 100.0, "ratio": 0.5},
        {"stage": "sft", "workers": 2, "rows_per_second": 200.0, "consumed_per_second": 100.0, "ratio": 2.0},
    ]
}
GENERATION = ABOUT | {
    "models": [
        {"model": "a<b", "batch": 8, "cache": False, "first_token_seconds": 0.25, "tokens_per_second": 31.0}
    ]
}


def widths(html, kind):
    return [float(w) for w in re.findall(rf'<rect class="{kind}"[^>]*? width="([\d.]+)"', html)]


def drawn(html):
    """Every chart of the HTML, parsed: it is sound XML."""
    return [ElementTree.fromstring(found) for found in re.findall(r"<svg.*?</svg>", html, re.DOTALL)]


def test_bars_are_as_long_as_the_speeds():
    html = benchmarks.speeds(STEP)
    [ours], [theirs] = widths(html, "sft"), widths(html, "reference")
    assert theirs / ours == pytest.approx(0.5 / 6.17, abs=0.01)
    assert "SFT, 12.3x" in html and ">6.17<" in html and ">0.5<" in html
    assert drawn(html)


def test_parts_of_a_step_fill_the_bar_in_their_shares():
    html = benchmarks.parts(STEP)
    for name, milliseconds in PARTS.items():
        ours, theirs = widths(html, name)
        assert ours == pytest.approx(theirs) and ours / sum(w[0] for w in (widths(html, n) for n in PARTS)) == (
            pytest.approx(milliseconds / 10, abs=0.01)
        )
    assert ">10 ms<" in html and ">100 ms<" in html
    assert drawn(html)


def test_lines_run_over_rows_in_order_with_memory_in_mebibytes():
    html = benchmarks.lines(ROWS, "peak_memory_bytes", "MiB", 1 << 20)
    assert "10,000 rows: 300 MiB" in html and "1,000,000 rows: 300 MiB" in html
    [points] = re.findall(r'class="line tokenize" points="([^"]+)"', html)
    places = [float(point.split(",")[0]) for point in points.split()]
    assert places == sorted(places) and len(places) == 2
    assert drawn(html)


def test_the_loader_s_bars_stand_beside_what_a_step_consumes():
    html = benchmarks.loader(LOADER)
    alone, two = widths(html, "sft")
    assert two == pytest.approx(4 * alone, abs=0.2)
    places = re.findall(r'<rect class="tick" x="([\d.]+)"', html)
    assert len(places) == 2 and float(places[0]) == pytest.approx(150 + two / 2 - 1, abs=0.2)
    unknown = [row | {"consumed_per_second": None} for row in LOADER["loading"]]
    assert "tick" not in benchmarks.loader({"loading": unknown})
    assert drawn(html)


def test_nothing_to_do_is_told_in_seconds_and_shares():
    shares = [{"part": "git", "share": 0.004}, {"part": "imports", "share": 0.6}]
    html = benchmarks.repro({"seconds": 2.345, "parts": shares})
    assert ">2.35 <" in html or ">2.34 <" in html
    assert "imports 60%" in html and "git" not in html


def test_each_panel_names_its_machine_and_nothing_measured_is_markup():
    html = benchmarks.section({"step": STEP, "rows": ROWS, "generation": GENERATION})
    assert html.count("Measured on A &lt;fast&gt; CPU, 2 cores; torch 2.13.0, commit 0123456789.") == 5
    assert "a&lt;b" in html and "<fast>" not in html


def test_what_was_not_measured_is_left_out():
    assert benchmarks.section({}) == ""
    html = benchmarks.section({"step": ABOUT | {"pretrain": {}}, "rows": ABOUT, "other": {}})
    assert html == ""


def test_one_number_of_rows_is_a_point():
    html = benchmarks.lines({"train": ROWS["tokenize"][:1]}, "rows_per_second", "rows a second", 1)
    assert html.count("<circle") == 1 and drawn(html)


def test_the_style_sheet_knows_its_colours():
    style = benchmarks.CSS
    assert style.count("{") == style.count("}")
    used = set(re.findall(r"var\((--[a-z_-]+)\)", style))
    assert used <= set(re.findall(r"(--[a-z_-]+):", style + CSS))


def test_the_page_shows_what_lies_in_results(tmp_path):
    paths = Paths(tmp_path)
    folder = tmp_path / "benchmarks" / "results"
    folder.mkdir(parents=True)
    paths.reports("evaluate").mkdir(parents=True)
    (paths.reports("evaluate") / "metrics.json").write_text("{}")
    assert "<h2>Benchmarks</h2>" not in write_report(paths).read_text(encoding="utf-8")
    (folder / "step.json").write_text(json.dumps(STEP))
    assert "<h2>Benchmarks</h2>" in write_report(paths).read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ['{"pretrain": {"rat', '{"pretrain": {"ratio": 3}}', "[]", '{"sft": null}'])
def test_a_damaged_file_is_named_and_left_out_of_the_page(tmp_path, capsys, text):
    paths, folder = Paths(tmp_path), tmp_path / "benchmarks" / "results"
    folder.mkdir(parents=True)
    paths.reports("evaluate").mkdir(parents=True)
    (paths.reports("evaluate") / "metrics.json").write_text("{}")
    (folder / "step_gpu.json").write_text(json.dumps(STEP))
    (folder / "step.json").write_text(text)
    page = write_report(paths).read_text(encoding="utf-8")
    assert "<h2>Benchmarks</h2>" in page and page.count("SFT, 12.3x") == 1
    assert "benchmarks/results/step.json: damaged" in capsys.readouterr().out
    assert "Left out: benchmarks/results/step.json: damaged" in page

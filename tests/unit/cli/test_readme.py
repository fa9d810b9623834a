"""The README's figures come from reports/."""

import pytest

from minivlm.cli.readme import BEGIN, END, readmes, replace_block, results_block
from minivlm.errors import UserError
from minivlm.files import write_json
from minivlm.paths import Paths

LOSSES = {"train_loss": 1.23456, "val_loss": 2.0, "steps": 1200, "samples": 5, "tokens": 1234567}
SCENES = {"attribute_recall": 0.9312, "shuffled_attribute_recall": 0.31, "bleu": 41.26, "image_gap": 1.5}


def test_figures_are_those_of_the_reports(tmp_path):
    paths = Paths(tmp_path)
    write_json(paths.reports("pretrain") / "metrics.json", LOSSES)
    write_json(paths.reports("sft") / "metrics.json", LOSSES)
    scores = {"pretrain": {"heldout": SCENES}, "sft": {"heldout": SCENES, "compositional": SCENES}}
    write_json(paths.reports("evaluate") / "metrics.json", scores)
    caption = {"file": "sunset.png", "title": "日落", "pretrain": {"caption": "海<s>"}, "sft": {"caption": "a|b"}}
    write_json(paths.reports("evaluate") / "captions.json", [caption])
    block = results_block(paths.reports)
    assert 'data/eval_images/sunset.png" alt="日落" width="160"> | 海&lt;s> | a&#124;b |' in block
    assert "| pretrain | 1,200 | 1,234,567 | 1.235 | 2.000 |" in block
    assert "| new pictures | sft | 0.931 (0.310) | 41.3 | 1.50 |" in block
    assert block.count("combinations never seen") == 1
    assert "CIDEr" not in block


def test_missing_reports_say_what_makes_them(tmp_path):
    with pytest.raises(UserError, match="run `make repro` first"):
        results_block(Paths(tmp_path).reports)


def test_only_the_block_is_replaced():
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert replace_block(text, "new\n", "README.md") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    with pytest.raises(UserError, match=r"README\.md: needs one line"):
        replace_block("no markers", "new\n", "README.md")


def test_the_committed_readme_is_current():
    paths = Paths()
    block = results_block(paths.reports)
    for readme in readmes(paths.root):
        text = readme.read_text(encoding="utf-8")
        assert replace_block(text, block, readme.name) == text, "run `minivlm readme`"

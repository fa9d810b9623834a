"""What is generated in the documents comes from reports/, params.yaml and the code, and is current."""

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from minivlm.cli.documents import blocks, results, sizes
from minivlm.cli.documents.figure import STATES, architecture
from minivlm.cli.documents.sides import named_sides
from minivlm.cli.documents.words import CHINESE, ENGLISH
from minivlm.cli.main import app
from minivlm.data.scenes.lexicon import COLOUR_WORDS, GROUND_WORDS, KIND_WORDS, SKY_WORDS
from minivlm.errors import UserError
from minivlm.files import write_json
from minivlm.paths import Paths

LOSSES = {"train_loss": 1.23456, "val_loss": 2.0, "steps": 1200, "samples": 5, "tokens": 1234567}
SCORES = {"attribute_recall": 0.9312, "shuffled_attribute_recall": 0.31, "bleu": 41.26, "image_gap": 1.5}
SCENE = {"sky": "night", "ground": "snow", "groups": [{"kind": "house", "number": 2, "colour": "yellow"}]}
NUMBER = {"attribute": "number", "true": 2, "stated": 3, "of": "house"}


@pytest.fixture(scope="module")
def counted():
    """Both sizes of the model."""
    return sizes.both_sizes(Paths())


def entry(file="a.jpg", pretrain=(), sft=(), caption="雪地上立着三座黄色的房子。", scene=SCENE):
    said = {"pretrain": {"caption": "夜晚", "mistakes": list(pretrain)}}
    return {
        "file": file,
        "title": "图",
        **said,
        "sft": {"caption": caption, "mistakes": list(sft)},
        "scene": scene,
    }


def reports(tmp_path, captions):
    paths = Paths(tmp_path)
    for stage in results.STAGES:
        write_json(paths.reports(stage) / "metrics.json", LOSSES)
    split = {"heldout": SCORES}
    scores = {"pretrain": split, "sft": {**split, "compositional": SCORES}}
    write_json(paths.reports("evaluate") / "metrics.json", scores)
    write_json(paths.reports("evaluate") / "captions.json", captions)
    return paths.reports


def test_figures_are_those_of_the_reports(tmp_path):
    block = results.results_block(reports(tmp_path, [entry()]), ENGLISH)
    assert "| pretrain | 1,200 | 1,234,567 | 1.235 | 2.000 |" in block
    assert "| new pictures | sft | 0.931 (0.310) | 1.50 |" in block
    assert block.count("combinations never seen") == 1
    assert "| new pictures | sft | 0.931 (0.310) | 41.3 | 1.50 |" in results.scores_block(
        reports(tmp_path, []), ENGLISH
    )


def test_a_failure_is_shown_with_what_is_wrong_in_bold_and_in_words(tmp_path):
    captions = [entry("good.jpg", caption="夜晚。"), entry("bad.jpg", sft=[NUMBER])]
    block = results.results_block(reports(tmp_path, captions), ENGLISH)
    assert "<b>三座黄色的房子</b>" in block
    assert "- sft: number of houses: said 3, is 2\n" in block
    assert "night, snow: 2 yellow houses" in block
    assert "right in 2, sft in 1." in block
    chinese = results.results_block(reports(tmp_path, captions), CHINESE)
    assert "- sft：房子的数量应为两座，说成了三座\n" in chinese
    assert "夜晚的雪地：两座黄色的房子" in chinese


def test_the_examples_are_a_picture_without_fault_and_the_worst_one():
    kind = {"attribute": "kind", "true": None, "stated": "bird"}
    captions = [
        entry("one", sft=[NUMBER]), entry("two", pretrain=[NUMBER]), entry("three"), entry("four"),
        entry("five", sft=[NUMBER, kind]), entry("six", sft=[NUMBER, kind], pretrain=[NUMBER]),
    ]  # fmt: skip
    assert [each["file"] for each in results.examples(captions)] == ["three", "six"]
    assert results.examples(captions[:1]) == captions[:1]
    assert results.examples([]) == []


def test_a_side_is_held_against_the_layout():
    committed = json.loads((Paths().reports("evaluate") / "captions.json").read_text(encoding="utf-8"))
    boat = next(each for each in committed if each["file"] == "01-sunset.jpg")  # it floats on the right
    for word, right in (("右边", True), ("左边", False), ("中间", False)):
        told = {**boat, "sft": {"caption": f"傍晚的大海，海面{word}漂着一艘白色的帆船。"}}
        assert named_sides(told, "sft") == [right]
    assert named_sides({**boat, "sft": {"caption": "左边飞着一只白色的鸟。"}}, "sft") == [], "no bird is there"
    assert named_sides({**boat, "file": "photo.jpg"}, "sft") == []


@pytest.mark.parametrize("words", [ENGLISH, CHINESE], ids=lambda words: words.language)
def test_every_mistake_can_be_told_in_both_languages(words):
    values = {
        "sky": SKY_WORDS,
        "ground": GROUND_WORDS,
        "kind": KIND_WORDS,
        "colour": COLOUR_WORDS,
        "number": range(1, 5),
    }
    for attribute, known in values.items():
        of = {"of": "boat"} if attribute in ("colour", "number") else {}
        for value in known:
            for true, stated in ((value, value), (value, None), (None, value)):
                told = words.mistake({"attribute": attribute, "true": true, "stated": stated, **of})
                assert told and "{" not in told and "None" not in told


def test_missing_reports_say_what_makes_them(tmp_path):
    with pytest.raises(UserError, match="run `make repro` first"):
        results.results_block(Paths(tmp_path).reports, ENGLISH)


def test_only_the_block_is_replaced():
    text = "before\n<!-- a:begin -->\nold\n<!-- a:end -->\nafter\n"
    marks = "<!-- a:begin -->", "<!-- a:end -->"
    new = blocks.replace_block(text, "new\n", "README.md", marks)
    assert new == "before\n<!-- a:begin -->\nnew\n<!-- a:end -->\nafter\n"
    for wrong in ("no markers", text + text, "<!-- a:end -->\n<!-- a:begin -->\n"):
        with pytest.raises(UserError, match=r"README\.md: needs one line <!-- a:begin -->"):
            blocks.replace_block(wrong, "new\n", "README.md", marks)


def test_the_figure_names_shapes_weights_and_what_is_trained(counted):
    root = ElementTree.fromstring(architecture(counted))
    texts = ["".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text")]
    for size in counted:
        assert f"{size.image} x {size.image} x 3" in texts and f"{size.image_tokens} x {size.llm_width}" in texts
        assert any(text.endswith(f"{size.parts().language_model:,}") for text in texts)
    assert {STATES[()][1], *(STATES[key][1] for key in (("pretrain", "sft"), ("sft",)))} <= set(texts)
    assert root.find("{http://www.w3.org/2000/svg}desc") is not None


def test_counted_weights_are_those_that_the_run_has_trained(counted):
    for stage in results.STAGES:
        told = json.loads((Paths().reports(stage) / "trained_parameters.json").read_text(encoding="utf-8"))
        assert counted[0].trained(stage) == told["weights"]


def test_what_is_said_to_be_trained_follows_the_policies(counted):
    def rows(pretrain, sft):
        policies = {"pretrain": pretrain, "sft": sft}
        table = sizes.parts_table(tuple(replace(size, policies=policies) for size in counted))
        lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
        return {line[0]: line[-2:] for line in lines[:12] if line and line[0]}

    told = rows("llm", "projector")
    assert told["language model"] == ["trained", "frozen"]
    assert told["projector"] == ["trained", "trained"] and told["vision tower"] == ["frozen", "frozen"]
    in_part = rows("projector+last_layer", "first_last")["language model"]
    for stage, policy, said in zip(
        ("pretrain", "sft"), ("projector+last_layer", "first_last"), in_part, strict=True
    ):
        for size in counted:
            trained = sum(size.weights[policy].trained.values()) - size.parts().projector
            assert f"{trained / size.parts().language_model:.1%} of it trained" in said, stage


def test_the_failure_is_not_called_the_second_picture_where_it_is_alone(tmp_path):
    block = results.results_block(reports(tmp_path, [entry("bad.jpg", sft=[NUMBER])]), ENGLISH)
    assert "The picture is a failure" in block and "second" not in block


def test_a_thing_that_is_made_up_is_told_once(tmp_path):
    made_up = [
        {"attribute": "kind", "true": None, "stated": "bird", "of": "bird"},
        {"attribute": "number", "true": None, "stated": 2, "of": "bird"},
    ]
    block = results.results_block(reports(tmp_path, [entry("bad.jpg", sft=made_up)]), ENGLISH)
    assert "- sft: bird: not in the picture\n" in block


def test_all_generated_documents_are_current():
    for path, text in blocks.generated(Paths()).items():
        assert path.is_file() and path.read_text(encoding="utf-8") == text, f"{path.name}: run `minivlm readme`"


def test_check_names_the_document_that_is_stale(tmp_path, monkeypatch):
    stale = tmp_path / "README.md"
    stale.write_text("old", encoding="utf-8")
    monkeypatch.setattr("minivlm.cli.documents.blocks.generated", lambda paths: {stale: "new"})
    monkeypatch.setattr("minivlm.paths.project_root", lambda: tmp_path)
    result = CliRunner().invoke(app, ["readme", "--check"])
    assert result.exit_code == 2 and result.stderr.startswith("error: README.md: ") and stale.read_text() == "old"
    result = CliRunner().invoke(app, ["readme"])
    assert result.exit_code == 0 and re.match("wrote README.md", result.stdout) and stale.read_text() == "new"

"""The files that the stage leaves: captions, samples, recall by attribute."""

import json
from pathlib import Path

import pytest

from minivlm.errors import UserError
from minivlm.evaluation.heldout import Heldout, Picture
from minivlm.evaluation.questions import ShownPicture, read_questions
from minivlm.evaluation.tables import attributes_csv, captions_markdown, samples_json
from tests.unit.evaluation.toys import picture


def shown(folder: Path, name: str, title: str) -> ShownPicture:
    return ShownPicture(name, folder / name, title, {"pretrain": "?", "sft": "??"}, None)


def test_the_table_shows_pictures_by_a_path_that_exists_from_its_folder(tmp_path):
    images, reports = tmp_path / "data" / "eval_images", tmp_path / "reports" / "evaluate"
    images.mkdir(parents=True)
    reports.mkdir(parents=True)
    picture(0).save(images / "sunset.png")
    text = captions_markdown(
        [shown(images, "sunset.png", "日落")], {"pretrain": ["海上日落"], "sft": ["很长\n的描述"]}, reports
    )
    header, _, row = text.splitlines()
    assert header == "| 图片 | Pretrain_vlm | SFT_vlm |"
    assert 'src="../../data/eval_images/sunset.png" alt="日落"' in row
    assert (reports / "../../data/eval_images/sunset.png").exists()
    assert row.endswith("| 海上日落 | 很长 的描述 |")


def test_a_caption_cannot_break_the_table(tmp_path):
    captions = {"pretrain": ["a | b <img src=x>"], "sft": ["c\n| d"]}
    row = captions_markdown([shown(tmp_path, "x.png", '"q"')], captions, tmp_path).splitlines()[2]
    assert row.count("|") == 4
    assert "<img src=x>" not in row
    assert 'alt="&quot;q&quot;"' in row


def test_samples_are_bounded_and_hold_words_only():
    splits = [
        Heldout(name, [Picture(f"{name}:{i}", str(i), b"\x89PNG", ("参考",), None) for i in range(50)], [])
        for name in ("heldout", "compositional")
    ]
    captions = {
        stage: {s.split: [f"{stage} {i}" for i in range(50)] for s in splits} for stage in ("pretrain", "sft")
    }
    samples = samples_json(splits, captions)
    assert len(samples) == 20
    assert samples[11] == {
        "picture": "compositional:1",
        "references": ["参考"],
        "pretrain": {"caption": "pretrain 1"},
        "sft": {"caption": "sft 1"},
    }
    assert "PNG" not in json.dumps(samples)


def test_recall_by_attribute_is_one_line_each_and_only_a_header_without_scenes():
    tree = {"by_attribute": {"sky": 0.5, "number": 0.25}, "shuffled_by_attribute": {"sky": 0.1, "number": 0.2}}
    assert attributes_csv({"sft": {"heldout": tree}}).splitlines() == [
        "stage,split,attribute,recall,shuffled_recall",
        "sft,heldout,sky,0.5,0.1",
        "sft,heldout,number,0.25,0.2",
    ]
    assert attributes_csv({"sft": {"heldout": {"cider": 1.0}}}).count("\n") == 1


def test_questions_name_file_title_and_the_question_of_each_stage(tmp_path):
    entry = {"file": "a.png", "title": "鸟", "question": {"pretrain": "一句话？", "sft": "详细？"}}
    (tmp_path / "questions.json").write_text(json.dumps([entry]), encoding="utf-8")
    (only,) = read_questions(tmp_path / "questions.json", tmp_path / "eval_images")
    assert (only.title, only.questions["sft"], only.truth) == ("鸟", "详细？", None)
    with pytest.raises(UserError, match=r"a\.png"):
        only.decode()


@pytest.mark.parametrize("text", ["{", "[{}]", '[{"file": "a", "title": "b", "question": {"sft": "c"}}]', "[3]"])
def test_malformed_questions_are_a_clear_error(tmp_path, text):
    (tmp_path / "questions.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"questions\.json"):
        read_questions(tmp_path / "questions.json", tmp_path)

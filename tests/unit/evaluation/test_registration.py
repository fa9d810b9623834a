"""What the registry is told of a judged model: the score by the first figure there is, rows by their digest."""

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from minivlm.data.scenes.world import Group, Truth
from minivlm.evaluation.heldout import Heldout, Picture
from minivlm.evaluation.model_run import ModelRun
from minivlm.evaluation.questions import ShownPicture
from minivlm.evaluation.registration import candidate, example_uri, rows_digest
from tests.unit.evaluation.toys import picture, picture_bytes, write_llava


def heldout(*numbers, truth=None, reference="一只鸟。"):
    pictures = [Picture(f"heldout:{n}", f"{n:064d}", picture_bytes(n), (reference,), truth) for n in numbers]
    return Heldout("heldout", pictures, [])


def told(tmp_path, figures):
    (tmp_path / "0.png").write_bytes(picture_bytes(0))
    shown = [ShownPicture("0.png", tmp_path / "0.png", "噪声", {"sft": "?"}, None)]
    run = ModelRun(["一|只鸟。"], {}, {"heldout": {"pictures": 2, "image_gap": 1.23456789, **figures}})
    return candidate("minivlm", "sft", Path("model"), "这是什么？", run, [heldout(1, 2)], shown)


@pytest.mark.parametrize(
    ("figures", "score"),
    [
        ({"attribute_recall": 0.12345678, "bleu": 3.0}, ("attribute_recall", 0.123457)),
        ({"cider": 1.5, "bleu": 3.0}, ("cider", 1.5)),
        ({"attribute_recall": None, "cider": 0.0}, ("cider", 0.0)),
        ({"bleu": 3.0}, None),
    ],
)
def test_the_score_is_the_first_figure_there_is(tmp_path, figures, score):
    found = told(tmp_path, figures).score
    assert found == (None if score is None else (*score, rows_digest(heldout(1, 2))))


def test_the_description_says_scores_and_captions(tmp_path):
    text = told(tmp_path, {"cider": 1.5, "shuffled_cider": 0.1}).description
    assert text.splitlines()[0] == "heldout: cider 1.5, image gap 1.23 (2 pictures)"
    assert "- 噪声: 一|只鸟。" in text


def test_rows_are_the_same_in_any_order_and_others_when_pictures_references_or_truths_are():
    digest = rows_digest(heldout(1, 2))
    assert len(digest) == 16 and rows_digest(heldout(2, 1)) == digest
    truth = Truth("day", "sea", (Group("bird", 1, "white"),))
    others = [heldout(1), heldout(1, 3), heldout(1, 2, truth=truth), heldout(1, 2, reference="两只鸟。")]
    assert len({digest, *map(rows_digest, others)}) == 5


def test_the_example_is_the_picture_made_small():
    uri = example_uri(picture(1, size=400))
    head, _, text = uri.partition(",")
    image = Image.open(io.BytesIO(base64.b64decode(text)))
    assert head == "data:image/jpeg;base64" and image.size == (224, 224) and image.format == "JPEG"


def test_without_evaluation_pictures_the_example_is_a_held_out_one():
    run = ModelRun([], {}, {"heldout": {"pictures": 2, "cider": 1.0}})
    found = candidate("minivlm", "sft", Path("model"), "?", run, [heldout(1, 2)], [])
    assert found.example == example_uri(picture(1))
    assert found.description == "heldout: cider 1 (2 pictures)"


def test_what_a_journal_holds_is_json_with_the_digest_of_the_files(tmp_path):
    import json
    from dataclasses import replace

    directory = write_llava(tmp_path / "model")
    first = replace(told(tmp_path, {"cider": 1.5}), directory=directory).told()
    assert json.loads(json.dumps(first)) == first and first["score"][:2] == ["cider", 1.5]
    (directory / "config.json").write_text("{}")
    assert replace(told(tmp_path, {}), directory=directory).told()["digest"] != first["digest"]

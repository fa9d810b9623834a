"""The versioned pictures of the results table."""

import numpy as np
import pytest
from PIL import Image

from minivlm.data.scenes.evaluation_pictures import PICTURES, SIZE, write_evaluation_pictures
from minivlm.evaluation.questions import read_questions
from minivlm.files import read_json
from minivlm.paths import project_root

DATA = project_root() / "data"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_evaluation_pictures(folder)
    return folder


def test_the_questions_in_git_are_those_that_the_code_writes(drawn):
    assert read_json(DATA / "questions.json") == read_json(drawn / "questions.json")


def test_the_pictures_in_git_show_what_the_code_draws(drawn):
    names = sorted(path.name for path in (drawn / "eval_images").iterdir())
    assert names == sorted(path.name for path in (DATA / "eval_images").iterdir())
    for name in names:  # decoded: another libjpeg may round differently
        new, old = (np.asarray(Image.open(f / "eval_images" / name), np.int16) for f in (drawn, DATA))
        assert new.shape == (SIZE, SIZE, 3)
        assert np.abs(new - old).mean() < 2, name


def test_evaluation_can_read_them(drawn):
    shown = read_questions(drawn / "questions.json", drawn / "eval_images")
    assert [picture.truth for picture in shown] == [picture.truth for picture in PICTURES]
    assert not any("<image>" in text for picture in shown for text in picture.questions.values())


def test_the_first_three_are_the_subjects_of_the_originals_table():
    sunset, clouds, bird = (picture.truth for picture in PICTURES[:3])
    assert sunset.sky == "sunset" and sunset.ground == "sea"
    assert clouds.sky == "day" and [(g.kind, g.colour) for g in clouds.groups] == [("cloud", "white")]
    assert [g.kind for g in bird.groups] == ["bird"]

"""Room for an answer and room in memory: what does not fit is refused, and big pictures are held one at a time."""

import threading
import warnings
import weakref

import pytest
from PIL import Image

from minivlm.errors import UserError
from minivlm.generation import opening
from minivlm.generation.caption_files import caption_files, printable
from minivlm.generation.captions import caption_pictures
from minivlm.generation.opening import picture_size, read_picture
from minivlm.generation.prompts import build_prompt, one_question, picture_features, room
from tests.unit.evaluation.toys import picture

POSITIONS = 256  # of the tiny model


def test_an_answer_that_does_not_fit_behind_its_question_is_refused(llava):
    features = picture_features(*llava, [picture(0)])
    prompt = len(build_prompt(llava[1], one_question("海" * 60), features.shape[1]).ids)
    most = POSITIONS - prompt
    assert room(llava[0], prompt) == most
    [caption] = caption_pictures(*llava, [picture(0)], "海" * 60, batch_size=1, max_new_tokens=most)
    assert isinstance(caption, str)
    for question, longest in (("海" * 60, most + 1), ("海" * 400, 1)):
        with pytest.raises(UserError, match=r"take \d+ tokens.* the model has 256 positions"):
            caption_pictures(*llava, [picture(0)], question, batch_size=1, max_new_tokens=longest)
    with pytest.raises(UserError, match="an answer of 257 tokens: the model has 256 positions"):
        room(llava[0], 0, POSITIONS + 1)


def test_a_model_without_positions_has_room_for_everything(llava, monkeypatch):
    monkeypatch.setattr(type(llava[0].config), "get_text_config", lambda *_, **__: object())
    assert room(llava[0], 1 << 20, 1 << 20) >= 1 << 20


@pytest.fixture
def alive(monkeypatch):
    """How many decoded pictures there were each time that another one was about to be decoded."""
    counts, decoded = [], []
    original = opening.upright

    def decode(image):
        counts.append(sum(each() is not None for each in decoded))
        whole = original(image)
        decoded.append(weakref.ref(whole))
        return whole

    monkeypatch.setattr(opening, "upright", decode)
    return counts


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_one_picture_is_decoded_at_a_time_and_captions_are_those_of_all_at_once(
    llava, tmp_path, alive, batch_size
):
    files = [tmp_path / f"{i}.png" for i in range(7)]
    for i, file in enumerate(files):
        picture(i, 40 + 9 * i).save(file)
    files[4].write_bytes(b"none")
    lines = list(caption_files(*llava, files, "几只？", batch_size=batch_size, max_new_tokens=6))
    assert [line.error for line in lines] == [None] * 4 + ["not a picture"] + [None] * 2
    assert alive == [0] * 6
    pictures = [picture(i, 40 + 9 * i) for i in range(7) if i != 4]
    assert [line.caption for line in lines if line.caption is not None] == [
        printable(each)
        for each in caption_pictures(*llava, pictures, "几只？", batch_size=batch_size, max_new_tokens=6)
    ]


def test_a_pictures_size_is_read_without_decoding_it(tmp_path, alive):
    Image.new("1", (9000, 9000)).save(tmp_path / "a.png")
    assert picture_size(tmp_path / "a.png") == (9000, 9000) and alive == []
    assert picture_size(b"none") == "not a picture"


def test_reading_pictures_in_threads_leaves_the_filters_of_warnings(tmp_path):
    Image.new("1", (9500, 9500)).save(tmp_path / "large.png")  # Pillow warns of it
    Image.new("RGB", (8, 8)).save(tmp_path / "small.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("small", "large"):
            read_picture(tmp_path / f"{name}.png")
        before = list(warnings.filters)
        threads = [
            threading.Thread(target=lambda: [read_picture(tmp_path / "small.png") for _ in range(50)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert warnings.filters == before
        assert isinstance(read_picture(tmp_path / "large.png"), Image.Image)

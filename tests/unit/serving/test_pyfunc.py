"""The loader that a registered model names: the captions of `minivlm caption`, and bad input in words."""

import base64
import io
import threading
import time
import weakref

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from PIL import Image

from minivlm.cli.caption import command
from minivlm.errors import UserError
from minivlm.evaluation.registration import MAX_NEW_TOKENS
from minivlm.generation.caption_files import caption_files
from minivlm.generation.loading import load_model
from minivlm.generation.opening import read_picture
from minivlm.serving import pyfunc
from minivlm.serving.pyfunc import BATCH_SIZE, _load_pyfunc
from tests.unit.evaluation.toys import picture, picture_bytes

QUESTION, LENGTH = "请描述这张图片。", 12
PARAMS = {"max_new_tokens": LENGTH}


@pytest.fixture(scope="module")
def captioner(llava_directory):
    return _load_pyfunc(str(llava_directory), {"question": QUESTION, "max_new_tokens": LENGTH, "device": "cpu"})


def said(captioner, **columns):
    return list(captioner.predict(pd.DataFrame(columns), PARAMS)["caption"])


def refusal(captioner, params=PARAMS, **columns):
    with pytest.raises(MlflowException) as error:
        captioner.predict(pd.DataFrame(columns), params)
    assert error.value.get_http_status_code() == 400
    return error.value.message


@pytest.fixture(scope="module")
def expected(llava_directory, tmp_path_factory):
    """What `minivlm caption` says of ten pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(10):
        (folder / f"{number}.png").write_bytes(picture_bytes(number))
    files = sorted(folder.iterdir())
    loaded = load_model(llava_directory)
    lines = list(caption_files(*loaded, files, QUESTION, batch_size=BATCH_SIZE, max_new_tokens=LENGTH))
    captions = [line.caption for line in lines]
    assert len(set(captions)) > 5  # they depend on the picture
    return captions


def test_bytes_base64_and_data_uris_get_the_captions_of_the_command(captioner, expected):
    raw = [picture_bytes(number) for number in range(10)]
    text = [base64.b64encode(data).decode() for data in raw]
    broken = ["\n".join(line[i : i + 76] for i in range(0, len(line), 76)) for line in text]
    for images in (raw, text, broken, [f"data:image/png;base64,{line}" for line in text], raw[:5] + text[5:]):
        assert said(captioner, image=images) == expected


def test_each_row_asks_its_own_question_and_silence_asks_the_default(captioner, expected):
    images = [picture_bytes(number) for number in range(4)]
    asked = [None, "<image> 这是什么？", pd.NA, "这是什么？"]
    captions = said(captioner, image=images, question=asked)
    assert [captions[0], captions[2]] == [expected[0], expected[2]]
    alone = [said(captioner, image=[images[n]], question=[asked[n]])[0] for n in (1, 3)]
    assert [captions[1], captions[3]] == alone


def test_pictures_lie_as_their_camera_noted(captioner):
    exif, streams = Image.Exif(), [io.BytesIO(), io.BytesIO()]
    exif[0x0112] = 3  # turned by 180 degrees
    picture(1).save(streams[0], "PNG")
    picture(1).rotate(180).save(streams[1], "PNG", exif=exif)
    first, second = said(captioner, image=[stream.getvalue() for stream in streams])
    assert first == second


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("http://127.0.0.1/a.png", "neither base64 nor a data URI"),
        ("/etc/passwd", "neither base64 nor a data URI"),
        ("夕阳", "neither base64 nor a data URI"),
        ("aGVsbG8=", "not a picture"),
        ("", "not a picture"),
        (None, "missing"),
        (float("nan"), "missing"),
        (pd.NA, "missing"),
        (pd.NaT, "missing"),
        (5, "int, not a picture's bytes"),
        (np.zeros(2), "ndarray, not a picture's bytes"),
        ([None], "list, not a picture's bytes"),
        (picture_bytes(0)[:300], "damaged"),
        ("data:image/png,%89PNG", "neither base64 nor a data URI"),
    ],
)
def test_what_is_no_picture_is_refused_in_words_and_by_its_row(captioner, value, reason):
    message = refusal(captioner, image=[picture_bytes(0), value])
    assert message.startswith("column 'image': row 1: ") and reason in message


def test_of_many_bad_rows_some_are_named(captioner):
    assert refusal(captioner, image=["x"] * 9).endswith("; and 4 more")


def test_large_pictures_are_refused_before_they_are_decoded(captioner, monkeypatch):
    stream = io.BytesIO()
    Image.new("1", (20_000, 10)).save(stream, "PNG")
    assert "20000 x 10 pixels: more than 100 times as long" in refusal(captioner, image=[stream.getvalue()])
    monkeypatch.setattr("minivlm.serving.pyfunc.MAX_PICTURE_BYTES", 100)
    assert f"{len(picture_bytes(0)):,} bytes, over 100" in refusal(captioner, image=[picture_bytes(0)])


def test_questions_and_lengths_out_of_range_are_refused(captioner):
    assert "column 'question': int, not text" in refusal(captioner, image=[picture_bytes(0)], question=[5])
    array = np.array(["a", "b"])
    assert "column 'question': ndarray, not text" in refusal(captioner, image=[picture_bytes(0)], question=[array])
    assert "take 1 or more" in refusal(captioner, {"max_new_tokens": 0}, image=[picture_bytes(0)])
    assert "256 positions; take fewer" in refusal(captioner, {"max_new_tokens": 300}, image=[picture_bytes(0)])


def test_without_a_length_an_answer_is_as_long_as_the_model_was_judged_with(captioner, expected):
    table = pd.DataFrame({"image": [picture_bytes(0)]})
    assert list(captioner.predict(table, {"max_new_tokens": None})["caption"]) == expected[:1]


def test_one_picture_at_a_time_is_decoded_of_many_rows(captioner, expected, monkeypatch):
    decoded, most = [], []

    def read(data):
        most.append(sum(each() is not None for each in decoded))
        picture = read_picture(data)
        decoded.append(weakref.ref(picture))
        return picture

    monkeypatch.setattr(pyfunc, "read_picture", read)
    assert said(captioner, image=[picture_bytes(number) for number in range(10)]) == expected
    assert len(most) == 10 and max(most) <= 1


def test_a_damaged_picture_of_a_later_batch_is_named_by_its_row(captioner):
    images = [picture_bytes(number) for number in range(BATCH_SIZE + 1)]
    images[BATCH_SIZE] = images[BATCH_SIZE][:300]
    assert f"row {BATCH_SIZE}: damaged" in refusal(captioner, image=images)


def test_one_batch_at_a_time_is_decoded_and_answered(captioner, monkeypatch):
    busy, overlaps = threading.Lock(), []

    def alone(result):
        def takes_time(*given, **__):
            list(*given[2:3])  # the pictures that are to be captioned, decoded as they are asked for
            overlaps.append(not busy.acquire(blocking=False))
            time.sleep(0.02)
            if not overlaps[-1]:
                busy.release()
            return result

        return takes_time

    monkeypatch.setattr(pyfunc, "read_picture", alone(picture(0)))
    monkeypatch.setattr(pyfunc, "caption_pictures", alone(["一只鸟。"]))
    row = {"image": [picture_bytes(0)]}
    asks = [threading.Thread(target=said, args=(captioner,), kwargs=row) for _ in range(8)]
    for thread in asks:
        thread.start()
    for thread in asks:
        thread.join()
    assert len(overlaps) == 16 and not any(overlaps)


def test_what_the_model_has_no_room_for_is_refused_in_words(captioner, monkeypatch):
    def refuses(*_, **__):
        raise UserError("the question does not fit")

    monkeypatch.setattr(pyfunc, "caption_pictures", refuses)
    assert refusal(captioner, image=[picture_bytes(0)]) == "the question does not fit"


def test_no_rows_get_no_captions(captioner):
    assert said(captioner, image=[]) == []


def test_threads_that_ask_at_once_get_each_its_own_caption(captioner, expected):
    found = {}

    def ask(number):
        found[number] = said(captioner, image=[picture_bytes(number)])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(4)] == [[caption] for caption in expected[:4]]


def test_an_answer_is_as_long_as_the_commands_by_default():
    assert command.__defaults__ is not None
    names = command.__code__.co_varnames[: command.__code__.co_argcount]
    defaults = dict(zip(names[-len(command.__defaults__) :], command.__defaults__, strict=True))
    assert defaults["max_new_tokens"] == MAX_NEW_TOKENS and defaults["batch_size"] == BATCH_SIZE

"""The demo without its page: models by name, conversations, answers stopped by the one who asked."""

import itertools

import pytest

from minivlm.errors import UserError
from minivlm.generation.captions import caption_pictures
from minivlm.generation.writing import Sampling
from minivlm.serving.demo_answers import Answers, Choice, DroppedError
from tests.unit.evaluation.toys import picture

QUESTION = "请详细描述这张图片。"


@pytest.fixture
def answers(llava_directory, tmp_path):
    return Answers([Choice("sft", llava_directory, QUESTION), Choice("gone", tmp_path / "gone", "?")], "cpu")


@pytest.fixture
def shown(tmp_path):
    picture(0).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def ask(answers, shown, turns=(), question=QUESTION, name="sft", most=8):
    return answers.ask("me", name, shown, list(turns), question, max_new_tokens=most, sampling=Sampling())


def test_an_answer_grows_to_the_caption(llava, answers, shown):
    replies = list(ask(answers, shown))
    (caption,) = caption_pictures(*llava, [picture(0)], QUESTION, batch_size=1, max_new_tokens=8)
    assert replies[-1].text == caption and "first token" in replies[-1].note and "tokens" in replies[-1].note
    first, _, _ = replies[-1].note.partition(" · ")
    assert first.split().count("token") == 1, "no word stands there twice"
    texts = [reply.text for reply in replies]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))


def test_a_model_is_loaded_once_and_when_it_is_asked(answers, monkeypatch):
    from minivlm.serving import demo_answers

    loads = []
    original = demo_answers.load_model
    monkeypatch.setattr(demo_answers, "load_model", lambda *a: loads.append(a[0].name) or original(*a))
    assert answers.load("sft") is answers.load("sft") and len(loads) == 1
    with pytest.raises(UserError, match="no model there"):
        answers.load("gone")


@pytest.mark.parametrize("content", [None, b"no picture", b"\xff\xd8\xff\xe0 broken"])
def test_a_picture_that_cannot_be_read_is_said_in_both_languages(answers, tmp_path, content):
    path = None
    if content is not None:
        path = tmp_path / "broken.png"
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"图片 · "):
        next(ask(answers, path))


def test_stopping_ends_the_answer_of_that_session_alone(answers, shown, monkeypatch):
    import time

    from minivlm.generation.speed import Meter

    put = Meter.put
    monkeypatch.setattr(Meter, "put", lambda meter, ids: (time.sleep(0.005), put(meter, ids)))
    monkeypatch.setattr(answers.load("sft")[0].generation_config, "eos_token_id", None)
    replies = ask(answers, shown, most=100)
    next(replies)
    answers.stop("you")
    next(replies)
    answers.stop("me")
    *_, last = replies
    assert "已停止" in last.note
    answers.stop("me")  # nothing runs any more


def test_an_answer_that_was_dropped_is_said_no_further_unless_it_is_about_the_same(answers, shown):
    replies = ask(answers, shown)
    next(replies)
    answers.drop("you")
    answers.drop("me", unless=(shown, "sft"))
    next(replies)
    answers.drop("me", unless=(shown, "pretrain"))
    with pytest.raises(DroppedError):
        next(replies)
    *_, last = ask(answers, shown)  # the next one is as any
    assert last.note


def test_an_answer_that_was_dropped_at_its_end_is_taken_back(answers, shown):
    replies = ask(answers, shown)
    assert next(reply for reply in replies if reply.note is not None)
    answers.drop("me")
    with pytest.raises(DroppedError):
        next(replies)


def test_a_question_that_is_stopped_while_its_model_is_loaded_is_stopped(answers, shown, monkeypatch):
    load = answers.load
    monkeypatch.setattr(answers, "load", lambda name: (answers.stop("me"), load(name))[1])
    monkeypatch.setattr(load("sft")[0].generation_config, "eos_token_id", None)
    *_, last = ask(answers, shown, most=100)
    assert "已停止" in last.note


def test_what_is_wrong_with_a_question_that_was_dropped_is_not_said(answers, monkeypatch):
    load = answers.load
    monkeypatch.setattr(answers, "load", lambda name: (answers.drop("me"), load(name))[1])
    with pytest.raises(DroppedError):
        list(ask(answers, None))


def test_a_chat_that_no_longer_fits_says_so(answers, shown):
    turns = [("请详细描述这张图片。", "好" * 30)] * 6
    *_, last = ask(answers, shown, turns)
    assert "放不下" in last.note

"""Answers piece by piece: together what `caption_pictures` returns, no half character, stopped at any time."""

import threading
import time
from functools import partial

import pytest
import torch

from minivlm.errors import UserError
from minivlm.generation.captions import caption_pictures
from minivlm.generation.conversation import Conversation
from minivlm.generation.speed import Meter
from minivlm.generation.streaming import Answer, visible
from minivlm.generation.text import TextPieces
from minivlm.generation.writing import Sampling
from tests.unit.evaluation.toys import picture

QUESTION = "请详细描述这张图片。"
MOST = 24


def ask(llava, *, shown=0, sampling=Sampling(), most=MOST):  # noqa: B008
    conversation = Conversation(*llava)
    conversation.show(picture(shown))
    with conversation.ask(QUESTION, max_new_tokens=most, sampling=sampling) as answer:
        pieces = list(answer)
    assert "".join(pieces) == answer.text
    return answer, pieces


@pytest.mark.parametrize("shown", range(4))
def test_the_pieces_together_are_the_caption(llava, shown):
    """The tiny model is random: its answers are full of half characters."""
    answer, pieces = ask(llava, shown=shown)
    (caption,) = caption_pictures(*llava, [picture(shown)], QUESTION, batch_size=1, max_new_tokens=MOST)
    assert answer.text == caption
    assert all(pieces) and not answer.stopped


@pytest.mark.parametrize("text", ["两只鸟🙂在飞。", "三艘 red 船\n\n 是的 ", "  空格", "船\ufffd鸟", "", "ab"])
def test_no_piece_ends_within_a_character(llava, text):
    tokenizer = llava[1].tokenizer
    ids = [tokenizer.convert_tokens_to_ids(each) for each in byte_tokens(text)]
    said = TextPieces(partial(tokenizer.decode, skip_special_tokens=True))
    pieces = [said.more(ids[:end]) for end in range(1, len(ids) + 1)]
    assert not any(piece.endswith("\ufffd") for piece in pieces)
    assert "".join(pieces) + said.end(ids) == text.strip()


def byte_tokens(text):
    """A token for each byte, as byte-level BPE writes them."""
    from tokenizers import pre_tokenizers

    ((written, _),) = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text) or [
        ("", (0, 0))
    ]
    return list(written)


def test_a_character_that_stays_half_is_shown_at_the_end(llava):
    tokenizer = llava[1].tokenizer
    half = [tokenizer.convert_tokens_to_ids(each) for each in byte_tokens("鸟")][:2]
    said = TextPieces(partial(tokenizer.decode, skip_special_tokens=True))
    assert said.more(half) == ""
    assert said.end(half) == "\ufffd"


@pytest.fixture
def endless(llava, monkeypatch):
    """No token ends an answer, and each takes 5 ms at least, so that a stop finds it under way."""
    put = Meter.put
    monkeypatch.setattr(Meter, "put", lambda meter, ids: (time.sleep(0.005), put(meter, ids)))
    monkeypatch.setattr(llava[0].generation_config, "eos_token_id", None)
    return llava


def test_leaving_early_ends_the_thread_and_keeps_what_was_said(endless):
    conversation = Conversation(*endless)
    conversation.show(picture(0))
    before = threading.active_count()
    with conversation.ask(QUESTION, max_new_tokens=200) as answer:
        first = next(iter(answer))
    assert threading.active_count() == before
    assert answer.stopped and answer.text == first
    assert answer.meter.tokens < 200


def test_stop_from_elsewhere_ends_the_pieces(endless):
    conversation = Conversation(*endless)
    conversation.show(picture(0))
    with conversation.ask(QUESTION, max_new_tokens=200) as answer:
        pieces = []
        for piece in answer:
            pieces.append(piece)
            answer.stop()
    assert answer.stopped and answer.text == "".join(pieces) and answer.meter.tokens < 200


def test_what_the_model_raises_is_raised_where_the_pieces_are_read(llava, monkeypatch):
    def broken(**_):
        raise MemoryError("no memory for it")

    monkeypatch.setattr(llava[0], "generate", broken)
    with pytest.raises(MemoryError, match="no memory for it"):
        ask(llava)


def test_a_seed_draws_the_same_and_leaves_torch_as_it_was(llava):
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    drawn = [ask(llava, sampling=Sampling(1.0, 0.95, seed))[0].text for seed in (5, 5, 6)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_most_probable_token_alone_is_the_greedy_answer(llava):
    assert ask(llava, sampling=Sampling(1.0, 1e-6, 0))[0].text == ask(llava)[0].text


@pytest.mark.parametrize(
    "values", [{"temperature": -0.1}, {"temperature": float("nan")}, {"top_p": 0}, {"top_p": 1.1}, {"seed": -1}]
)
def test_what_is_no_sampling_is_refused(values):
    with pytest.raises(UserError, match=next(iter(values))):
        Sampling(**values)


def test_tokens_are_counted_as_generate_makes_them(llava):
    """With no end token in sight: as many as asked for, one at first and the others after it."""
    answer, _ = ask(llava, most=7)
    meter = answer.meter
    assert meter.tokens <= 7 and meter.first_token_seconds > 0
    whole = Meter()
    caption_pictures(*llava, [picture(i) for i in range(3)], QUESTION, batch_size=2, max_new_tokens=5, meter=whole)
    assert 3 <= whole.tokens <= 15 and "tokens/s" in whole.shown()
    assert Meter().shown() == "" and Meter().tokens_per_second is None


def test_a_batch_counts_each_answer_up_to_its_end():
    from minivlm.generation.captions import _tokens

    assert _tokens([[5, 2, 0, 0], [5, 6, 7, 8], [2, 0, 0, 0]], 2) == 2 + 4 + 1
    assert _tokens([[5, 2, 3]], [3, 9]) == 3 and _tokens([[5, 2]], None) == 2


def test_pieces_cannot_command_a_terminal():
    assert visible("鸟\x1b[31m\n飞\x07") == "鸟[31m\n飞"


def test_white_space_keeps_words_apart():
    assert visible("你好\u3000世界\u00a0a\tb") == "你好 世界 a b"


@pytest.mark.parametrize("temperature", [1e-40, 1e-320, 0.0099])
def test_a_temperature_near_zero_is_zero(llava, temperature):
    assert ask(llava, sampling=Sampling(temperature))[0].text == ask(llava)[0].text


def test_drawn_tokens_are_cut_by_top_p_alone():
    """transformers cuts at the 50 most probable ones where nothing is said of it."""
    assert Sampling(0.7, 0.9).options() == {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "top_k": 0}


def test_without_a_seed_every_answer_is_drawn_anew_whatever_was_drawn_before(llava):
    drawn = []
    for _ in range(3):
        torch.manual_seed(1)
        drawn.append(ask(llava, sampling=Sampling(2.0))[0].text)
    assert len(set(drawn)) > 1


def test_a_tokenizer_that_mends_spaces_takes_nothing_from_an_answer(llava, monkeypatch):
    from minivlm.generation.streaming import plain_text

    tokenizer = llava[1].tokenizer
    ids = [tokenizer.convert_tokens_to_ids(each) for each in byte_tokens("a do n't go home .")]
    monkeypatch.setattr(tokenizer, "clean_up_tokenization_spaces", True)
    said = TextPieces(partial(plain_text, llava[1]))
    pieces = [said.more(ids[:end]) for end in range(1, len(ids) + 1)]
    assert "".join(pieces) + said.end(ids) == "a do n't go home ."


def test_an_answer_needs_no_conversation(llava):
    from minivlm.generation.prompts import build_prompt, one_question, picture_features

    features = picture_features(*llava, [picture(1)])
    prompt = build_prompt(llava[1], one_question(QUESTION), features.shape[1])
    with Answer(*llava, prompt, features, max_new_tokens=MOST) as answer:
        assert "".join(answer) == ask(llava, shown=1)[0].text

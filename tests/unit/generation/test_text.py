"""Pieces of an answer: together the whole of it, without what may still change."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivlm.generation.text import TextPieces


def decode(ids):
    """Tokens that are bytes, as those of a byte-level tokenizer can be."""
    return bytes(ids).decode("utf-8", "replace")


def pieces(data, stop=()):
    text = TextPieces(decode, stop)
    said = []
    for length in range(1, len(data) + 1):
        said.append(text.more(data[:length]))
        if text.stopped:
            data = data[:length]
            break
    return [*said, text.end(data)], text.stopped


@given(
    st.text(alphabet="海 \na🙂b", max_size=12), st.lists(st.text("海 \nab", min_size=1, max_size=3), max_size=3)
)
def test_pieces_make_the_answer_up_to_the_stop_string_that_is_complete_first(answer, stop):
    said, stopped = pieces(answer.encode(), stop)
    read = (answer[:n] for n in range(len(answer) + 1))
    until = next((text for text in read if any(each in text for each in stop)), None)
    cut = None if until is None else min(until.find(each) for each in stop if each in until)
    assert ("".join(said), stopped) == (answer[:cut].strip(), until is not None)


@given(st.binary(max_size=12))
def test_bytes_that_are_no_text_are_said_once(data):
    said, _ = pieces(data)
    assert "".join(said) == decode(data).strip()


def test_half_a_character_and_white_space_are_held_back():
    assert pieces("海 b".encode())[0] == ["", "", "海", "", " b", ""]


@pytest.mark.parametrize(
    ("stop", "said"), [(["bc"], ["a", "", "", ""]), (["bd"], ["a", "", "bc", ""]), ([], ["a", "b", "c", ""])]
)
def test_what_may_become_a_stop_string_is_held_back(stop, said):
    assert pieces(b"abc", stop)[0] == said


def test_a_decoder_that_changes_its_mind_loses_nothing_that_comes_later():
    texts = ["do", "do n", "don't", "don't go", "don't go home"]
    text = TextPieces(lambda ids: texts[len(ids) - 1])
    pieces = [text.more(range(n)) for n in range(1, 6)] + [text.end(range(5))]
    assert pieces == ["do", " n", "t", " go", " home", ""]

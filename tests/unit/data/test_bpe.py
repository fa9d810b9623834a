"""The base tokenizer: what it may merge, what comes back, and that the same texts give the same bytes."""

import json

import pytest

from minivlm.data.bpe import train_tokenizer
from minivlm.data.chat import CHAT_TEMPLATE, IMAGE_TOKEN, SPECIAL_TOKENS
from minivlm.data.encoding import ChatEncoder
from tests.unit.data.toys import tree

LONGEST = 6
NUMERALS = "0123456789〇零一二两三四五六七八九十百千万亿"
TEXTS = [
    "图中有三只红色的鸟",
    "。〇 3 birds、四 3a三",
    "共有12只羊\n\n白色的房子",
    "user\nassistant\n一座白色的房子",
] * 9


def train(directory, texts=TEXTS, **changed):
    options = {"vocabulary": 600, "min_frequency": 2, "longest_token": LONGEST} | changed
    return train_tokenizer(texts, directory, **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    directory = tmp_path_factory.mktemp("bpe")
    train(directory)
    return directory


@pytest.fixture(scope="module")
def encoder(trained):
    return ChatEncoder(trained)


def pieces(encoder, text):
    """The bytes of each token: UTF-8 alone cannot show half a character."""
    from tokenizers import Tokenizer

    names = Tokenizer.from_file(str(encoder.path)).encode(text, add_special_tokens=False).tokens
    return [name_bytes(name) for name in names]


def name_bytes(name):
    """GPT-2's letters for bytes, undone."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    known = {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(rest)}
    return bytes(known[letter] for letter in name)


def test_the_same_texts_give_the_same_bytes(trained, tmp_path):
    train(tmp_path / "again")
    assert tree(tmp_path / "again") == tree(trained)


def test_special_tokens_come_first_and_the_count_is_of_all_tokens(tmp_path):
    count = train(tmp_path / "t")
    encoder = ChatEncoder(tmp_path / "t")
    assert count == encoder.vocabulary
    assert encoder.special_ids == [0, 1, 2, 3]
    assert 256 + len(SPECIAL_TOKENS) < count < 600  # merges end where nothing occurs twice


@pytest.mark.parametrize("longest", [2, 3, 5, 6, 7])
def test_the_longest_token_is_as_long_as_allowed(tmp_path, longest):
    train(tmp_path / "t", longest_token=longest)
    names = json.loads((tmp_path / "t" / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    assert max(len(name_bytes(name)) for name in names if name not in SPECIAL_TOKENS) == longest


@pytest.mark.parametrize("text", [*sorted(set(TEXTS)), "两百三十万零五", "x二y", "。一。", "第3名"])
def test_a_numeral_never_merges_with_its_neighbours(encoder, text):
    numerals = [numeral.encode() for numeral in NUMERALS]
    for piece in pieces(encoder, text):
        whole = [numeral for numeral in numerals if numeral in piece]
        assert whole in ([], [piece]), piece.decode(errors="replace")


@pytest.mark.parametrize("before", ["有", "a", "。", " ", "\n", "三"])
@pytest.mark.parametrize("numeral", ["三", "〇", "7"])
def test_a_numeral_stays_alone_however_often_it_follows_the_same_letter(tmp_path, before, numeral):
    train(tmp_path / "t", [before + numeral + "只"] * 20, longest_token=12)
    encoder = ChatEncoder(tmp_path / "t")
    joined = pieces(encoder, before + numeral + "只")
    assert joined == pieces(encoder, before) + pieces(encoder, numeral) + pieces(encoder, "只")


def test_a_newline_is_a_token_of_its_own(encoder):
    assert pieces(encoder, "。\n\n a\n") == [*pieces(encoder, "。"), b"\n", b"\n", *pieces(encoder, " a"), b"\n"]


def test_chinese_and_letters_do_not_merge(encoder):
    assert pieces(encoder, "只a") == pieces(encoder, "只") + pieces(encoder, "a")


@pytest.mark.parametrize(
    "text",
    ["", "三座白色的房子", "🦜👩‍👩‍👧 né ́", "  a \t\n\n b  ", "<|im_end|> <image>", "\x00ﬀ １２〇々", "ру́сский"],
)
def test_any_text_comes_back(encoder, text):
    [ids] = encoder.encode_plain([text], framed=False)
    assert encoder.decode(ids.tolist()) == text
    assert not set(ids.tolist()) & set(encoder.special_ids)


def test_plain_texts_are_framed_when_asked_for(encoder):
    framed = encoder.encode_plain(["三只鸟", ""])
    bare = encoder.encode_plain(["三只鸟", ""], framed=False)
    _, start, end, _ = encoder.special_ids
    assert [ids.tolist() for ids in framed] == [[start, *ids.tolist(), end] for ids in bare]
    assert bare[1].dtype == framed[0].dtype == "int64"
    assert len(bare[1]) == 0


def test_transformers_loads_it_with_template_and_special_tokens(trained, encoder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(trained)
    assert tokenizer.chat_template == CHAT_TEMPLATE
    assert tokenizer.image_token == IMAGE_TOKEN
    named = [tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id]
    assert named == encoder.special_ids[:3]
    messages = [{"role": "user", "content": "<image>\n几只?"}, {"role": "assistant", "content": "三只。"}]
    [(ids, _)] = encoder.encode_rows([messages], image_tokens=1)
    assert tokenizer.apply_chat_template(messages, return_dict=False) == ids.tolist()

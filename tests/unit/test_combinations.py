"""Values that are impossible together, each held against what becomes of them later."""

import copy
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from minivlm.config import parse_params
from minivlm.config.combinations import text_beside_a_picture
from minivlm.data.bpe import train_tokenizer
from minivlm.data.chat import SPECIAL_TOKENS
from minivlm.data.encoding import ChatEncoder
from minivlm.data.scenes.grammar import SHORT_PROMPTS
from minivlm.errors import UserError
from minivlm.files import read_json
from minivlm.paths import Paths

HASH = "0" * 64
BROUGHT = {"path": "folder", "sha256": HASH}
FILE = {"path": "rows.parquet", "sha256": HASH}
HUB = {"repo": "owner/name", "rows": "rows.parquet"}


def with_values(changes: dict[str, Any]) -> Any:
    """params.yaml with other values at dotted keys."""
    values = copy.deepcopy(YAML(typ="safe", pure=True).load(Paths().params))
    for key, value in changes.items():
        *way, last = key.split(".")
        section = values
        for part in way:
            section = section.setdefault(part, {})
        section[last] = value
    return values


def params(**changes: Any) -> Any:
    return parse_params(with_values({key.replace("__", "."): value for key, value in changes.items()}))


def first_learned(encoder, question):
    """Tokens of a row up to the first that is learned, without the picture's one."""
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": "鹰"}]
    ((_, supervised),) = encoder.encode_rows([turns], 1)
    return int(np.flatnonzero(supervised)[0])  # its place from 0, one place being the picture's


@pytest.mark.parametrize("longest", [2, 3, 5, 1000])
def test_no_row_has_fewer_tokens_beside_a_picture_than_its_bound(tmp_path, longest):
    texts = ["user\n", "assistant\n", "鹰", *(prompt.removeprefix("<image>") for prompt in SHORT_PROMPTS)]
    train_tokenizer(texts * 9, tmp_path, vocabulary=2000, min_frequency=2, longest_token=longest)
    encoder = ChatEncoder(tmp_path)
    drawn = text_beside_a_picture(params(base__tokenizer__longest_token=longest))
    shortest = min(first_learned(encoder, prompt) for prompt in SHORT_PROMPTS)
    files = {"pretrain": FILE, "sft": FILE, "heldout": FILE}
    own = text_beside_a_picture(
        params(base__tokenizer__longest_token=longest, download__source="local", download__local=files)
    )
    alone = first_learned(encoder, "<image>")
    assert own <= alone and drawn <= shortest
    if longest == 1000:  # a token for each word
        assert (own, drawn) == (alone, shortest)


@pytest.mark.parametrize("longest", [2, 3, 5])
def test_no_token_is_longer_than_it_may_be_and_one_byte_is_no_limit_that_can_be_held(tmp_path, longest):
    text = "这张图片里都有什么？ a bird in the sky"
    train_tokenizer([text] * 9, tmp_path, vocabulary=2000, min_frequency=2, longest_token=longest)
    words = read_json(tmp_path / "tokenizer.json")["model"]["vocab"].keys() - set(SPECIAL_TOKENS)
    assert max(map(len, words)) == longest  # a byte is a character there
    with pytest.raises(UserError, match=r"base\.tokenizer\.longest_token = 1: .*greater than or equal to 2"):
        params(base__tokenizer__longest_token=1)


@pytest.mark.parametrize("key", ["train_pictures", "sft_rows"])
def test_one_row_cannot_be_both_trained_and_validated_on(key):
    with pytest.raises(UserError, match=rf"download\.scenes\.{key} = 1: .*greater than or equal to 2"):
        parse_params(with_values({f"download.scenes.{key}": 1}))
    assert parse_params(with_values({f"download.scenes.{key}": 2}))


@pytest.mark.parametrize("source", ["local", "hub"])
def test_rows_that_are_not_drawn_have_files_before_any_work(source):
    one = FILE if source == "local" else HUB
    place = f"download.{source}"
    base = {"download.source": source}
    for named, missing in (((), "pretrain"), (("sft",), "pretrain"), (("pretrain",), "sft")):
        with pytest.raises(UserError, match=rf"^params.yaml: {place}\.{missing} is missing; name its file"):
            parse_params(with_values(base | {f"{place}.{split}": one for split in named}))
    both = base | {f"{place}.pretrain": one, f"{place}.sft": one}
    with pytest.raises(UserError, match=rf"{place}\.heldout is missing; .*download\.heldout_fraction"):
        parse_params(with_values(both))
    assert parse_params(with_values(both | {"download.heldout_fraction": 0.02}))
    assert parse_params(with_values(both | {f"{place}.heldout": one}))


TOWER = {"base.vision_tower.source": "local", "base.vision_tower.pretrained": BROUGHT}
LLM = {"base.llm.source": "local", "base.llm.pretrained": BROUGHT}


@pytest.mark.parametrize(
    ("changes", "needless"),
    [
        ({"base.llm.batch_tokens": 511}, {"base.llm.source": "random"}),
        ({"base.llm.batch_tokens": 511}, LLM),
        ({"base.llm.text_length": 600}, {"base.llm.source": "random"}),
        ({"base.llm.text_length": 600}, LLM),
        ({"base.llm.heads": 5}, LLM),
        ({"base.llm.heads": 64}, LLM),
        ({"base.vision_tower.image_size": 100}, TOWER),
        ({"base.vision_tower.heads": 3}, TOWER),
        ({"base.vision_feature_layer": 9}, TOWER),
    ],
)
def test_what_nothing_is_made_of_is_not_asked_for(changes, needless):
    with pytest.raises(UserError):
        parse_params(with_values(changes))
    assert parse_params(with_values(changes | needless))


@pytest.mark.parametrize("changes", [{"base.vision_tower.image_size": 100}, {"base.llm.heads": 5}])
def test_models_of_random_weights_have_sizes_that_fit(changes):
    with pytest.raises(UserError, match="is no multiple of"):
        parse_params(with_values(changes | {"base.source": "random"}))


def test_keys_that_mean_nothing_are_refused():
    with pytest.raises(
        UserError, match=r"'base\.vision_tower\.pretrained\.checkpoint'.*'base\.llm\.pretrained\.checkp"
    ):
        parse_params(with_values({"base.vision_tower.pretrained": BROUGHT | {"checkpoint": "a.pth"}}))
    with pytest.raises(UserError, match=r"unknown key 'base\.tokenizer\.pretrained\.checkpoint'"):
        parse_params(with_values({"base.tokenizer.pretrained": BROUGHT | {"checkpoint": "a.pth"}}))
    with pytest.raises(UserError, match=r"base\.tokenizer\.pretrained\.config: a tokenizer has no sizes"):
        parse_params(with_values(LLM | {"base.tokenizer.pretrained": BROUGHT | {"config": {"vocab_size": 3}}}))
    assert parse_params(with_values({"base.llm.pretrained": BROUGHT | {"checkpoint": "a.pth"}}))

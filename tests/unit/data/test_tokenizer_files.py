"""What lies beside a tokenizer of somebody's: read, or refused in one line."""

import json

import pytest

from minivlm.data.tokenizer_files import AddedToken, added_tokens, read_mapping, read_template
from minivlm.errors import UserError

TEMPLATE = "{{ messages }}"


def write(folder, **values):
    (folder / "tokenizer_config.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize(
    "template",
    [
        TEMPLATE,
        [{"name": "default", "template": TEMPLATE}],
        [{"name": "tools", "template": "x"}, {"name": "default", "template": TEMPLATE}, {"name": "rag"}],
    ],
)
def test_a_template_is_a_text_or_the_default_of_several(tmp_path, template):
    assert read_template(write(tmp_path, chat_template=template)) == TEMPLATE


@pytest.mark.parametrize("template", [None, "", [], [{"name": "tools", "template": "x"}]])
def test_there_may_be_no_template(tmp_path, template):
    assert read_template(write(tmp_path, chat_template=template)) is None


@pytest.mark.parametrize(
    "template",
    [7, {"a": "b"}, True, [TEMPLATE], [{"template": TEMPLATE}], [{"name": "default"}],
     [{"name": "default", "template": None}, {"name": "default", "template": TEMPLATE}],
     [{"name": "default", "template": [TEMPLATE]}]],
)  # fmt: skip
def test_a_template_that_is_no_text_is_refused(tmp_path, template):
    with pytest.raises(UserError, match=r"tokenizer_config\.json: its chat_template is "):
        read_template(write(tmp_path, chat_template=template))


def test_a_template_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "chat_template.jinja").write_bytes("{# é #}".encode("latin-1"))
    with pytest.raises(UserError, match=r"chat_template\.jinja: not a chat template: not UTF-8 text"):
        read_template(tmp_path)


def test_tokens_are_named_by_their_ids(tmp_path):
    write(tmp_path, added_tokens_decoder={"3": {"content": "<z>", "special": True}, "12": {"content": "y"}})
    assert added_tokens(tmp_path) == [AddedToken(3, "<z>", True), AddedToken(12, "y", False)]
    for nothing in ({}, None):
        assert added_tokens(write(tmp_path, added_tokens_decoder=nothing)) == []


@pytest.mark.parametrize(
    "decoder",
    [[1], "x", {"x": {"content": "<z>"}}, {"-1": {"content": "<z>"}}, {"9" * 30: {"content": "<z>"}},
     {"²": {"content": "<z>"}}, {"3": "<z>"}, {"3": {"special": True}}, {"3": {"content": 7}},
     {"3": {"content": ""}}, {"\n": {}}],
)  # fmt: skip
def test_a_token_without_an_id_or_a_text_is_refused(tmp_path, decoder):
    with pytest.raises(UserError, match=r"tokenizer_config\.json: its added_tokens_decoder ") as caught:
        added_tokens(write(tmp_path, added_tokens_decoder=decoder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"[]", b"7", b"{", b"\xff", b"[" * 5000, b'{"a": "\\ud800"}'])
def test_what_is_no_json_object_of_texts_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json: "):
        read_mapping(tmp_path / "a.json")

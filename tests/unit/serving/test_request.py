"""What is read of a request, and how the rest of OpenAI's fields are refused or left aside."""

from typing import Any

import pytest

from minivlm.serving.errors import RequestError
from minivlm.serving.limits import Limits
from minivlm.serving.request import IGNORED, UNSUPPORTED, read_request
from tests.unit.serving.asking import NAME, data_uri, request, shown

TEXT = {"role": "user", "content": "你好"}
WRONG: dict[str, list[Any]] = {
    "temperature": [-0.1, 2.1, float("nan"), float("inf"), "1", True, 10**400],
    "top_p": [-0.1, 1.1, "x", []],
    "seed": [2**63, 1.5, "1"],
    "max_tokens": [0, -1, 1.5, True, "5"],
    "stop": ["", [""], ["a"] * 5, "x" * 101, [1], {"a": 1}],
    "stream": [1, "true"],
    "stream_options": ["x", {"include_usage": "yes"}],
    "messages": [[], {}, "x", None],
    "model": [5],
}
PLACE = "messages[0].content[0].image_url.url"


def read(body, limits=None):
    return read_request(body, NAME, limits or Limits())


def refused(body, limits=None):
    with pytest.raises(RequestError) as caught:
        read(body, limits)
    error = caught.value
    assert error.message.isprintable() and len(error.message) < 400
    assert error.body()["error"]["message"] == error.message
    return error.status, error.code, error.param


def test_defaults_are_greedy_whole_and_unseeded():
    asked = read(request(TEXT))
    assert (asked.temperature, asked.top_p, asked.seed, asked.stop) == (0.0, 1.0, None, ())
    assert (asked.stream, asked.include_usage, asked.max_tokens) == (False, False, None)
    assert asked.messages == [{"role": "user", "content": [{"type": "text", "text": "你好"}]}]


def test_settings_are_read():
    asked = read(
        request(
            TEXT, temperature=1, top_p=0.5, seed=-3, stop="x", stream=True, stream_options={"include_usage": True}
        )
    )
    assert (asked.temperature, asked.top_p, asked.seed, asked.stop) == (1.0, 0.5, -3, ("x",))
    assert asked.stream and asked.include_usage
    assert read(request(TEXT, max_tokens=5)).max_tokens == 5
    assert read(request(TEXT, max_tokens=5, max_completion_tokens=7)).max_tokens == 7


def test_a_picture_is_its_bytes_and_its_place():
    asked = read(request(shown(data_uri()), {"role": "assistant", "content": "好"}, shown(data_uri(kind="JPEG"))))
    assert [data[:3] for _, data in asked.pictures] == [b"\x89PN", b"\xff\xd8\xff"]
    assert [place for place, _ in asked.pictures] == [PLACE, PLACE.replace("messages[0]", "messages[2]")]
    assert asked.messages[0]["content"][0] == {"type": "image"}


def test_conversations_come_back_as_clients_keep_them():
    answer = {"role": "assistant", "content": "好", "refusal": None, "tool_calls": None, "function_call": None}
    asked = read(request({"role": "developer", "content": "短"}, TEXT | {"name": "me"}, answer, TEXT))
    assert [message["role"] for message in asked.messages] == ["system", "user", "assistant", "user"]


@pytest.mark.parametrize("name", IGNORED)
def test_fields_that_change_no_answer_are_left_aside(name):
    assert read(request(TEXT, **{name: {"any": "thing"}})) == read(request(TEXT))


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_fields_that_cannot_be_followed_are_refused_unless_they_ask_for_nothing(name):
    for nothing in UNSUPPORTED[name]:
        assert read(request(TEXT, **{name: nothing})) == read(request(TEXT))
    assert refused(request(TEXT, **{name: [{"some": "thing"}]})) == (400, "unsupported_parameter", name)


@pytest.mark.parametrize(
    "name", ["temperature", "top_p", "seed", "max_tokens", "stop", "stream", "stream_options"]
)
def test_null_is_the_default(name):
    assert read(request(TEXT, **{name: None})) == read(request(TEXT))


@pytest.mark.parametrize(("field", "value"), [(field, value) for field in WRONG for value in WRONG[field]])
def test_values_out_of_range_are_refused_by_name(field, value):
    status, code, param = refused(request(TEXT) | {field: value})
    assert (status, code, param.split(".")[0].split("[")[0]) == (400, "invalid_value", field)


def test_missing_and_unknown_fields_are_named():
    assert refused({"model": NAME}) == (400, "missing_required_parameter", "messages")
    assert refused({"messages": [TEXT]}) == (400, "missing_required_parameter", "model")
    assert refused(request(TEXT, top_k=5)) == (400, "unknown_parameter", "top_k")
    assert refused(request(TEXT) | {"\ud800\n": 1})[0] == 400


@pytest.mark.parametrize("name", ["gpt-4o", "", "../../etc/passwd", "artifacts/sft/model", "\ud800"])
def test_there_is_no_other_model(name):
    assert refused(request(TEXT, model=name)) == (404, "model_not_found", "model")


@pytest.mark.parametrize(
    "message",
    [
        {"role": "tool", "content": "x"},
        {"role": "user"},
        {"role": "user", "content": None},
        {"role": "user", "content": [{"type": "text"}]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]},
        {"role": "user", "content": [{"text": "no type"}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": data_uri()}]},
        {"role": "user", "content": ["x"]},
        {"role": "user", "content": "x", "tool_calls": [{}]},
        {"role": "assistant", "content": "x"},
        {"role": "system", "content": [{"type": "image_url", "image_url": {"url": data_uri()}}]},
        5,
    ],
)
def test_messages_of_another_kind_are_refused(message):
    status, code, param = refused(request(message))
    assert status == 400 and code in ("invalid_value", "missing_required_parameter")
    assert param.startswith("messages")


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://127.0.0.1:9/x.png",
            "https://example.org/x.png",
            "file:///etc/passwd",
            "/etc/passwd",
            "x.png",
            "",
        ),
        *("data:", "data:,", "data:image/png;base64", "data:image/png,abc", "data:text/html;base64,QQ=="),
        *("data:image/png;base64,A", "data:image/png;base64,QQ==\n", "data:image/png;base64,图", "ftp://x/y"),
        f"data:image/png;{'a=b;' * 99}base64,QQ==",
    ],
)
def test_only_data_uris_of_pictures_are_read(url):
    assert refused(request(shown(url))) == (400, "invalid_image_url", PLACE)


def test_a_data_uri_may_name_parameters_and_capitals():
    url = data_uri().replace("data:image/png;base64", "DATA:image/PNG;charset=utf-8;BASE64")
    assert read(request(shown(url))).pictures == read(request(shown(data_uri()))).pictures


def test_there_are_only_so_many_messages_characters_and_pictures():
    limits = Limits(messages=3, characters=10, pictures=2)
    assert refused(request(*[TEXT] * 4), limits) == (400, "invalid_value", "messages")
    long = {"role": "user", "content": "海" * 6}
    assert refused(request(long, long), limits) == (400, "context_length_exceeded", "messages")
    three = [shown(data_uri(), "")] * 3
    assert refused(request(*three), limits) == (400, "invalid_value", "messages")
    assert len(read(request(*three[:2]), limits).pictures) == 2


def test_half_a_surrogate_pair_is_a_replacement_character():
    asked = read(request({"role": "user", "content": "a\ud800b"}, stop=["\udc00"]))
    assert asked.messages[0]["content"][0]["text"] == "a\ufffdb" and asked.stop == ("\ufffd",)

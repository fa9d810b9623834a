"""The JSON of a chat request → what is asked: texts, encoded pictures, settings; RequestError for anything else.

Nothing is fetched and nothing opened: a picture is the bytes of a data: URI. OpenAI's fields that this model
cannot follow are refused unless they ask for nothing (`n: 1`, `tools: []`); those that change no answer are left
aside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from minivlm.data.data_uri import picture_bytes
from minivlm.data.strict_json import shown
from minivlm.generation.prompts import whole
from minivlm.serving.errors import RequestError
from minivlm.serving.limits import Limits

# Field → the values of it that ask for nothing.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "frequency_penalty": (None, 0, 0.0),
    "presence_penalty": (None, 0, 0.0),
    "logit_bias": (None, {}),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "audio": (None,),
    "prediction": (None,),
    "web_search_options": (None,),
}
IGNORED = (
    *("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"),
    *("prompt_cache_retention", "parallel_tool_calls", "reasoning_effort", "verbosity"),
)


@dataclass(frozen=True)
class Asked:
    """A request that was understood. `messages` as minivlm.generation.prompts takes them; `pictures[i]`: where the
    i-th picture stood and its encoded bytes."""

    messages: list[dict[str, Any]]
    pictures: list[tuple[str, bytes]]
    max_tokens: int | None
    temperature: float
    top_p: float
    seed: int | None
    stop: tuple[str, ...]
    stream: bool
    include_usage: bool


def read_request(body: Mapping[str, Any], model: str, limits: Limits) -> Asked:
    """What a request asks of `model`; RequestError when it asks for something else, or for too much."""
    for name, harmless in UNSUPPORTED.items():
        if name in body and not any(type(body[name]) is type(each) and body[name] == each for each in harmless):
            raise RequestError(
                400, f"{name}: not supported by this server", code="unsupported_parameter", param=name
            )
    known = {name: value for name, value in body.items() if name not in UNSUPPORTED and name not in IGNORED}
    try:
        chat = _Chat.model_validate(known)
    except ValidationError as error:
        raise _refusal(error) from None
    if chat.model != model:
        said = f"model: no {shown(chat.model)} here; this server has {model}"
        raise RequestError(404, said, code="model_not_found", param="model")
    messages, pictures = _contents(chat.messages, limits)
    return Asked(
        messages=messages,
        pictures=pictures,
        max_tokens=chat.max_completion_tokens or chat.max_tokens,
        temperature=chat.temperature or 0.0,
        top_p=1.0 if chat.top_p is None else chat.top_p,
        seed=chat.seed,
        stop=_stops(chat.stop, limits),
        stream=bool(chat.stream),
        include_usage=bool(chat.stream_options and chat.stream_options.include_usage),
    )


def _picture_bytes(url: str, place: str) -> bytes:
    """The bytes of a picture's data: URI; RequestError for every other address."""
    try:
        return picture_bytes(url)
    except ValueError as error:
        raise RequestError(400, f"{place}: {error}", code="invalid_image_url", param=place) from None


def _whole(text: Any) -> Any:
    return whole(text) if isinstance(text, str) else text


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _parts(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


_Text = Annotated[str, BeforeValidator(_whole)]


class _Lenient(BaseModel):
    """Other keys are left aside: clients send back what they were given, and notes of their own."""

    model_config = ConfigDict(strict=True, extra="ignore")


class _TextPart(_Lenient):
    type: Literal["text"]
    text: _Text


class _Address(_Lenient):
    url: str


class _PicturePart(_Lenient):
    type: Literal["image_url"]
    image_url: _Address


class _Message(_Lenient):
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        list[Annotated[_TextPart | _PicturePart, Field(discriminator="type")]], BeforeValidator(_parts)
    ]
    tool_calls: Annotated[list[Any], Field(max_length=0)] | None = None
    function_call: None = None


class _StreamOptions(_Lenient):
    include_usage: bool | None = None


class _Chat(BaseModel):
    """The fields of OpenAI's chat completions that are followed."""

    model_config = ConfigDict(strict=True, extra="forbid")

    model: _Text
    messages: Annotated[list[_Message], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Annotated[list[_Text], BeforeValidator(_listed)] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None


def _contents(messages: list[_Message], limits: Limits) -> tuple[list[dict[str, Any]], list[tuple[str, bytes]]]:
    """Messages with pictures as places, and the pictures; RequestError where there are too many of anything."""
    if len(messages) > limits.messages:
        raise _too_much("messages", f"{len(messages):,} of at most {limits.messages}")
    if messages[-1].role != "user":
        raise RequestError(400, "messages: the last one is a user's", code="invalid_value", param="messages")
    characters, plain = 0, []
    pictures: list[tuple[str, bytes]] = []
    for number, message in enumerate(messages):
        parts = []
        for index, part in enumerate(message.content):
            if isinstance(part, _TextPart):
                characters += len(part.text)
                parts.append({"type": "text", "text": part.text})
                continue
            place = f"messages[{number}].content[{index}].image_url.url"
            if message.role != "user":
                raise RequestError(400, f"{place}: only users show pictures", code="invalid_value", param=place)
            if len(pictures) == limits.pictures:
                raise _too_much("messages", f"more than {limits.pictures} pictures")
            pictures.append((place, _picture_bytes(part.image_url.url, place)))
            parts.append({"type": "image"})
        # What OpenAI's newer models call a developer is a system message.
        plain.append({"role": "system" if message.role == "developer" else message.role, "content": parts})
    if characters > limits.characters:
        said = f"messages: {characters:,} characters of at most {limits.characters:,}"
        raise RequestError(400, said, code="context_length_exceeded", param="messages")
    return plain, pictures


def _stops(stop: list[str] | None, limits: Limits) -> tuple[str, ...]:
    found = tuple(stop or ())
    if len(found) > limits.stops:
        raise _too_much("stop", f"{len(found):,} strings of at most {limits.stops}")
    if any(not 0 < len(each) <= limits.stop_characters for each in found):
        raise _too_much("stop", f"a string of it has 1 to {limits.stop_characters} characters")
    return found


def _too_much(param: str, said: str) -> RequestError:
    return RequestError(400, f"{param}: {said}", code="invalid_value", param=param)


def _refusal(error: ValidationError) -> RequestError:
    """The first fault that pydantic found, with its place in the request."""
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ""
    for step in fault["loc"]:
        place += f"[{step}]" if isinstance(step, int) else f".{shown(step)[1:-1]}"
    place = place.removeprefix(".")
    if fault["type"] == "extra_forbidden":
        return RequestError(400, f"{place}: unknown parameter", code="unknown_parameter", param=place)
    code = "missing_required_parameter" if fault["type"] == "missing" else "invalid_value"
    if fault["type"] in ("union_tag_invalid", "union_tag_not_found"):
        fault["msg"] = "a part's type is text or image_url"
    said = fault["msg"][:1].lower() + fault["msg"][1:]
    return RequestError(400, f"{place}: {said}", code=code, param=place)

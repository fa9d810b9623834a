"""What one request may cost, and how many there may be: every number of the server, once."""

from __future__ import annotations

from dataclasses import dataclass

from minivlm.data.validation.picture import MAX_PICTURES


@dataclass(frozen=True)
class Limits:
    """Beyond them a request is refused with a 4xx, or its answer ends early."""

    body_bytes: int = 20 << 20  # a JPEG of 15 MiB as base64
    body_seconds: float = 30.0  # until a request has arrived
    messages: int = 64
    characters: int = 32_768  # of all texts together: nothing longer is tokenized
    pictures: int = MAX_PICTURES
    pixels: int = 100_000_000  # of all pictures together
    stops: int = 4  # strings that end an answer, as OpenAI has it
    stop_characters: int = 100  # of one of them
    tokens: int = 128  # of an answer, where the request does not say; as `minivlm caption`
    seconds: float = 60.0  # of computing an answer, its pictures too
    inside: int = 17  # requests at once: one is computed, the others wait
    connections: int = 256

"""What a client is told when its request is refused, in the form that OpenAI's clients read."""

from __future__ import annotations

from typing import Any

_TYPES = {429: "rate_limit_error", 503: "overloaded_error"}


class RequestError(Exception):
    """A request that is refused: an HTTP status and one line on what is wrong, with OpenAI's code for it."""

    def __init__(self, status: int, message: str, *, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param

    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        default = "invalid_request_error" if self.status < 500 else "server_error"
        kind = _TYPES.get(self.status, default)
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """When to come again, where that helps."""
        return {"Retry-After": "1"} if self.status in _TYPES else {}


def stopping() -> RequestError:
    """What a client is told whose answer the server has no time for any more."""
    return RequestError(503, "the server is stopping", code="server_stopping")


def fault() -> RequestError:
    """What a client is told of a bug: the log has the rest."""
    return RequestError(500, "the server failed; its log says why", code="server_error")

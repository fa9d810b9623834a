"""How often a place is asked again, and what its refusals mean in one line.

Asked again: 408, 429 and 5xx, dropped connections, silence. Waits double from one second; `Retry-After` (seconds
or a date) and the hub's `RateLimit` header replace them. Everything else is said at once. Both ends are bounded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

from minivlm.errors import UserError
from minivlm.hub.places import Place

if TYPE_CHECKING:
    import httpx2

Result = TypeVar("Result")

TRIES = 8  # in a row without anything new
TRIES_UNREACHED = 3  # of a place that has never answered: the next place may
LONGEST_WAIT = 600.0  # seconds; a place that asks for more is left alone
_FIRST_WAIT = 1.0
_LONGEST_DOUBLED = 60.0


class PlaceError(UserError):
    """A place cannot give a file; another place may."""


class NotThereError(PlaceError):
    """The repository, the revision or the file does not exist at a place."""


class Stopped(Exception):  # noqa: N818  (nothing is wrong with this file)
    """Another file failed, or the user stops: leave what is there and go."""


class Patience:
    """The tries that are left for one thing (`what`: a file, or nothing) of one repository at one place."""

    def __init__(self, place: Place, repo: str, kind: str, what: str, stop: threading.Event) -> None:
        self._place, self._repo, self._kind, self._what = place, repo, kind, what
        self._stop = stop
        self._failures = 0

    def renew(self) -> None:
        """Something new came: the tries begin anew."""
        self._failures = 0

    def attempt(self, action: Callable[[], Result]) -> Result | None:
        """What `action` returns, or None when it failed in a way that passes and the wait after it is over.

        PlaceError when there is no use in asking again, or no try is left.
        """
        import httpx2
        from huggingface_hub.errors import HfHubHTTPError

        if self._place.away:
            raise PlaceError(self._place.away)
        try:
            result = action()
        except HfHubHTTPError as error:
            self._place.reached = True
            status = error.response.status_code
            if status not in (408, 429) and status < 500:
                raise self._refusal(error) from None
            self.wait(f"answers {status} {_STATUS.get(status, '')}".strip(), asked_wait(error.response))
        except httpx2.TooManyRedirects:
            raise PlaceError("sends from address to address without end") from None
        except httpx2.RequestError as error:
            self.wait(_connection(error, self._place))
        else:
            self._place.reached = True
            return result
        return None

    def wait(self, reason: str, asked: float | None = None) -> None:
        """Wait `asked` seconds, or ever longer; PlaceError with `reason` when that was the last try."""
        self._failures += 1
        tries = TRIES if self._place.reached else TRIES_UNREACHED
        if self._failures >= tries:
            if not self._place.reached:
                self._place.away = reason
            raise PlaceError(f"{reason}, {self._failures} times in a row")
        seconds = min(_FIRST_WAIT * 2 ** (self._failures - 1), _LONGEST_DOUBLED) if asked is None else asked
        if seconds > LONGEST_WAIT:
            raise PlaceError(f"{reason}; it asks to wait {seconds:.0f} seconds: try again later")
        pause(seconds, self._stop)

    def _refusal(self, error: Exception) -> PlaceError:
        """The line for an answer that asking again would not change."""
        from huggingface_hub import errors

        repo, kind, advice = self._repo, self._kind, self._place.access_advice(self._repo, self._kind)
        status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else 0
        if isinstance(error, errors.GatedRepoError):  # a kind of RepositoryNotFoundError: first
            return PlaceError(f"{repo} is gated: {advice}")
        if isinstance(error, errors.RevisionNotFoundError):
            return NotThereError(f"{repo} has no such revision; `minivlm pin --update` takes the newest")
        if isinstance(error, errors.EntryNotFoundError):
            return NotThereError(f"{repo} has no file {self._what} at this revision")
        if isinstance(error, errors.RepositoryNotFoundError):
            return NotThereError(f"there is no {kind} {repo}; or it is private: then {advice}")
        if status in (401, 403):
            return PlaceError(f"{repo} may not be read (HTTP {status}): {advice}")
        if status == 404:
            return NotThereError(f"has no {f'{self._what} in ' if self._what else ''}{repo} (HTTP 404)")
        return PlaceError(f"answers HTTP {status}")


def pause(seconds: float, stop: threading.Event) -> None:
    """Sleep, unless all is to stop."""
    if stop.wait(seconds):
        raise Stopped


_STATUS = {429: "(too many requests)", 502: "(bad gateway)", 503: "(not available)", 504: "(gateway timeout)"}


def _connection(error: httpx2.RequestError, place: Place) -> str:
    import httpx2

    said = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError):
        return f"{place.endpoint} cannot be reached ({said})"
    if isinstance(error, httpx2.TimeoutException):
        return f"{place.endpoint} falls silent ({said})"
    return f"{place.endpoint} drops the connection ({said})"


def refuse_page(response: httpx2.Response, path: str) -> None:
    """PlaceError for a web page in place of a file, as networks with a login send it with status 200.

    Looked at before what has arrived is thrown away for it.
    """
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == "text/html" and not path.lower().endswith((".html", ".htm")):
        raise PlaceError(f"sends a web page for {path}; a login page of the network may be in the way")


def asked_wait(response: httpx2.Response) -> float | None:
    """Seconds that an answer asks to wait: `Retry-After`, else a used-up `RateLimit`; None without either."""
    from huggingface_hub.utils import parse_ratelimit_headers

    value = response.headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    if value:
        try:
            return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
        except ValueError:
            return None
    limit = parse_ratelimit_headers(response.headers)
    return float(limit.reset_in_seconds) if limit and limit.remaining == 0 else None

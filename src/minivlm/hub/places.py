"""The two places that files come from: Hugging Face (or a mirror of it) and ModelScope.

A place is an address, the headers of its requests, and how its refusals read. Everything is read from the
environment when a place is made: HF_ENDPOINT, HF_TOKEN, MODELSCOPE_ENDPOINT (or the older MODELSCOPE_DOMAIN),
MODELSCOPE_API_TOKEN. Requests go through huggingface_hub's session, so proxies and certificates are set in one
way.

ModelScope is spoken to over its file address alone, without its own package: that brings a second cache (so a
model is kept twice), a second set of retries and bars, and 30 MB of which one GET would be used.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from urllib.parse import quote, urlencode, urlsplit

from minivlm.errors import UserError
from minivlm.hub.pins import Pin, PinnedFile


class Place(ABC):
    """A hub: `title` for messages, `endpoint` its address without a slash at the end."""

    title: str
    endpoint: str

    def __init__(self) -> None:
        self.reached = False  # something answered
        self.away = ""  # why it cannot be reached, once that is known: the other files need not try

    def repository(self, pin: Pin) -> str:
        """owner/name of a pin's repository at this place."""
        return pin.repo

    @abstractmethod
    def addresses(self, file: PinnedFile) -> list[str]:
        """Where `file` may be, the likeliest first; the next one counts where the one before has no such file."""

    @abstractmethod
    def headers(self) -> dict[str, str]:
        """Headers of every request."""

    @abstractmethod
    def page(self, repo: str, kind: str) -> str:
        """The page of a repository, for people."""

    @abstractmethod
    def access_advice(self, repo: str, kind: str) -> str:
        """What to do about a repository that asks who is there."""


class HuggingFace(Place):
    """huggingface.co, or what HF_ENDPOINT names."""

    title = "Hugging Face"

    def __init__(self) -> None:
        super().__init__()
        self.endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        _require_address("HF_ENDPOINT", self.endpoint)

    def addresses(self, file: PinnedFile) -> list[str]:
        from huggingface_hub import hf_hub_url

        pin = file.pin
        return [
            hf_hub_url(pin.repo, file.path, repo_type=pin.kind, revision=file.revision, endpoint=self.endpoint)
        ]

    def headers(self) -> dict[str, str]:
        from huggingface_hub.utils import build_hf_headers

        return build_hf_headers()  # with HF_TOKEN, or the token of `hf auth login`

    def page(self, repo: str, kind: str) -> str:
        return f"{self.endpoint}/{'datasets/' if kind == 'dataset' else ''}{repo}"

    def access_advice(self, repo: str, kind: str) -> str:
        return f"accept its terms at {self.page(repo, kind)}, then set HF_TOKEN or run `hf auth login`"


class ModelScope(Place):
    """modelscope.cn, or what MODELSCOPE_ENDPOINT names.

    Its repositories are copies with commits of their own: a revision of Hugging Face is unknown there, so the
    newest state is asked for next. The pinned sha256 decides whether that is the file.
    """

    title = "ModelScope"

    def __init__(self) -> None:
        super().__init__()
        name = "MODELSCOPE_ENDPOINT" if os.environ.get("MODELSCOPE_ENDPOINT") else "MODELSCOPE_DOMAIN"
        endpoint = (os.environ.get(name) or "https://modelscope.cn").rstrip("/")
        self.endpoint = endpoint if "://" in endpoint else f"https://{endpoint}"
        _require_address(name, self.endpoint)

    def repository(self, pin: Pin) -> str:
        return pin.modelscope or pin.repo

    def addresses(self, file: PinnedFile) -> list[str]:
        base = f"{self.endpoint}/api/v1/{file.pin.kind}s/{quote(self.repository(file.pin))}/repo"
        return [
            f"{base}?{urlencode({'Revision': name, 'FilePath': file.path})}" for name in (file.revision, "master")
        ]

    def headers(self) -> dict[str, str]:
        token = os.environ.get("MODELSCOPE_API_TOKEN")
        if not token:
            return {}
        return {"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"}

    def page(self, repo: str, kind: str) -> str:
        return f"{self.endpoint}/{kind}s/{repo}"

    def access_advice(self, repo: str, kind: str) -> str:
        return f"ask for access at {self.page(repo, kind)}, then set MODELSCOPE_API_TOKEN"


def places(name: str) -> list[Place]:
    """The places of a name (`auto`, `huggingface`, `modelscope`), in the order in which they are asked."""
    known: dict[str, list[type[Place]]] = {
        "auto": [HuggingFace, ModelScope],
        "huggingface": [HuggingFace],
        "modelscope": [ModelScope],
    }
    if name not in known:
        raise UserError(f"runtime.hub = {name!r}: must be one of {', '.join(known)}")
    return [place() for place in known[name]]


def offline() -> bool:
    """Whether HF_HUB_OFFLINE (or transformers' name for it) forbids every request."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in ("1", "ON", "YES", "TRUE")


def _require_address(name: str, endpoint: str) -> None:
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UserError(f"{name}={endpoint}: must be an address like https://hub.example.org")

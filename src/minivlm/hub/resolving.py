"""A name becomes a pin: the present commit of a repository, and size and sha256 of the files that are wanted."""

from __future__ import annotations

import hashlib
import threading
from typing import Any

from minivlm.errors import UserError
from minivlm.hub.choice import Choose
from minivlm.hub.patience import Patience, PlaceError, refuse_page
from minivlm.hub.pins import REVISION, SHA256, Kind
from minivlm.hub.places import HuggingFace, offline

_SECONDS = 30.0  # for one answer
_NO_HUB = "{} does not answer as a hub does; HF_ENDPOINT may be wrong, or a login page of the network in the way"


def resolve(
    repo: str, kind: Kind, choose: Choose, revision: str | None = None
) -> tuple[str, dict[str, tuple[int, str]]]:
    """The commit of `revision` (a branch, tag or commit; `main` if absent) and its files: path → (bytes, sha256).

    Asked is Hugging Face, or what HF_ENDPOINT names. It states the sha256 of large files; small ones are read and
    hashed here. UserError when the hub cannot be reached or does not have what `choose` looks for.
    """
    if offline():
        raise UserError("HF_HUB_OFFLINE is set: pins are looked up where there is a network")
    place = HuggingFace()
    try:
        info = _info(place, repo, kind, revision)
        listed = {each.rfilename: each for each in info.siblings or []}
        chosen = choose(listed)
        files = {path: _size_and_hash(place, repo, kind, info.sha, listed[path]) for path in chosen}
    except PlaceError as error:
        mirror = ". HF_ENDPOINT may name a mirror; see docs/hub.md" if place.away else ""
        raise UserError(f"{repo}: {place.title}: {error}{mirror}") from None
    except UserError as error:
        raise UserError(f"{repo}: {error}") from None
    return info.sha, files


def _info(place: HuggingFace, repo: str, kind: Kind, revision: str | None) -> Any:
    """What the hub says of a repository: `sha` and `siblings` (ModelInfo or DatasetInfo)."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    api = HfApi(endpoint=place.endpoint)
    patience = Patience(place, repo, kind, "", threading.Event())

    def ask() -> Any:
        try:
            return api.repo_info(repo, repo_type=kind, revision=revision, files_metadata=True, timeout=_SECONDS)
        except HFValidationError:
            raise PlaceError("a repository is named owner/name") from None
        except (ValueError, LookupError, TypeError, AttributeError):  # the client takes any 200 for a hub's answer
            raise PlaceError(_NO_HUB.format(place.endpoint)) from None

    info = None
    while info is None:
        info = patience.attempt(ask)
    if not isinstance(info.sha, str) or not REVISION.fullmatch(info.sha):
        raise PlaceError(_NO_HUB.format(place.endpoint))
    return info


def _size_and_hash(place: HuggingFace, repo: str, kind: Kind, revision: str, listed: Any) -> tuple[int, str]:
    if listed.lfs is not None:
        size, sha256 = listed.lfs.size, listed.lfs.sha256
        if not isinstance(size, int) or not isinstance(sha256, str) or not SHA256.fullmatch(sha256):
            raise PlaceError(f"states no size and sha256 of {listed.rfilename}")
        return size, sha256
    content = _read(place, repo, kind, revision, listed.rfilename)
    name = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    if listed.blob_id not in (None, name) or listed.size not in (None, len(content)):
        raise PlaceError(f"sends other bytes for {listed.rfilename} than it lists")
    return len(content), hashlib.sha256(content).hexdigest()


def _read(place: HuggingFace, repo: str, kind: Kind, revision: str, path: str) -> bytes:
    """A small file's content (the hub keeps what is over 10 MB by its sha256)."""
    from huggingface_hub import get_session, hf_hub_url, hf_raise_for_status

    address = hf_hub_url(repo, path, repo_type=kind, revision=revision, endpoint=place.endpoint)
    patience = Patience(place, repo, kind, path, threading.Event())

    def get() -> bytes:
        response = get_session().get(address, headers=place.headers(), timeout=_SECONDS)
        hf_raise_for_status(response)
        refuse_page(response, path)
        return response.content

    content = None
    while content is None:
        content = patience.attempt(get)
    return content

"""A hub on the loopback interface: Hugging Face's and ModelScope's protocol over a folder, misbehaving on demand.

ROOT/{models,datasets}/owner/name/… holds the repositories; a repository's revision is a hash of its contents.
owner/name@TAG/ beside it is an older state of it, found by the hash of its contents or by TAG. The server speaks
what huggingface_hub's client asks: repository info, tree, paths-info, resolve (HEAD, GET, ranges, the redirect of
large files to another host, the hub's error headers), and ModelScope's file address. Every request is logged.

    python tests/hub_server.py --root DIR --port-file FILE [--slow BYTES_PER_SECOND] [--log FILE]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

_SMALL = {".json", ".txt", ".md", ".jinja"}  # kept by git itself; the rest is large-file storage
_BLOCK = 16384
_PARTIAL = {"drop", "drop-no-range", "no-length", "silence", "hold"}  # only a share of the body is sent
_API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+))?/?")
_RESOLVE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_CDN = re.compile(r"/_cdn/(models|datasets)/([^/]+/[^/]+)/(.+)")
_SCOPE = re.compile(r"/api/v1/(models|datasets)/([^/]+/[^/]+)/repo")

What = Literal[
    "drop",
    "status",
    "change",
    "length",
    "more",
    "no-range",
    "drop-no-range",
    "wrong-range",
    "no-length",
    "silence",
]


@dataclass
class Fault:
    """What goes wrong with the bodies of files whose path ends with `path`, `times` times."""

    path: str
    what: What
    times: int = 1
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    share: float = 0.5  # drop: of the body, before the connection goes
    extra: int = 7  # length: what Content-Length is off by; more: bytes beyond the end


@dataclass
class Request:
    """One line of the log."""

    method: str
    path: str
    range: str | None
    authorization: str | None
    cookie: str | None
    status: int = 0
    sent: int = 0  # bytes of the body


class HubServer(ThreadingHTTPServer):
    """The server; `url` is its address. Settings may change while it runs."""

    daemon_threads = True

    def __init__(self, root: Path, slow: float = 0.0, log: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root, self.slow, self._log_file = root, slow, log
        self.gated: set[str] = set()  # repositories that want `token`
        self.private: set[str] = set()  # the same, but said to be absent
        self.token = "hf_right"
        self.faults: list[Fault] = []
        self.instead: dict[str, tuple[str, bytes]] = {}  # part of a path → content type and body, with status 200
        self.log: list[Request] = []
        self.at_once = self.most_at_once = 0  # bodies under way
        self.lock = threading.Lock()
        self.release = threading.Event()  # ends what "hold" holds

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def cdn(self) -> str:
        """Another origin, to which large files are redirected."""
        return f"http://localhost:{self.server_port}"

    def folder(self, kind: str, repo: str) -> Path | None:
        folder = self.root / kind / repo
        return folder if folder.is_dir() else None

    def states(self, kind: str, repo: str) -> dict[str, Path]:
        """Commit, branch or tag of a repository that exists → its folder."""
        newest = self.root / kind / repo
        tagged = {each.name.partition("@")[2]: each for each in newest.parent.glob(f"{newest.name}@*")}
        named = {"main": newest, **tagged}
        return named | {revision_of(folder): folder for folder in named.values()}

    def misbehave(self, path: str, what: What, times: int = 1, **settings: Any) -> None:
        self.faults.append(Fault(path, what, times, **settings))

    def fault(self, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if path.endswith(fault.path) and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def bodies(self, path: str = "") -> list[Request]:
        """The requests that were answered with (a part of) a file, or failed to be."""
        found = [
            r
            for r in self.log
            if r.method == "GET" and ("/_cdn/" in r.path or "resolve" in r.path or "FilePath" in r.path)
        ]
        return [r for r in found if path in unquote(r.path) and r.status != 302]

    def write_log(self, request: Request) -> None:
        with self.lock:
            self.log.append(request)
            if self._log_file is not None:
                with self._log_file.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(asdict(request)) + "\n")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""


def files_of(folder: Path) -> dict[str, Path]:
    """Path in the repository → file."""
    return {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}


def revision_of(folder: Path) -> str:
    """40 hex digits derived from names and contents."""
    digest = hashlib.sha1(usedforsecurity=False)
    for path, file in files_of(folder).items():
        digest.update(f"{path}\0{sha256_of(file)}\n".encode())
    return digest.hexdigest()


def sha256_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _is_large(path: str) -> bool:
    return Path(path).suffix not in _SMALL


def _git_name(file: Path) -> str:
    data = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, format: str, *args: Any) -> None:
        """The log is the server's."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        headers = self.headers
        self.entry = Request(
            self.command, self.path, headers.get("Range"), headers.get("Authorization"), headers.get("Cookie")
        )
        try:
            self._route()
        finally:
            self.server.write_log(self.entry)

    def _route(self) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        for part, (kind, body) in self.server.instead.items():
            if part in path:
                return self._body(kind, body)
        if match := _SCOPE.fullmatch(path):
            query = parse_qs(parts.query)
            return self._modelscope(match[1], match[2], query["Revision"][0], query["FilePath"][0])
        if match := _API.fullmatch(path):
            return self._api(match[1], match[2], match[3], match[4])
        if match := _CDN.fullmatch(path):
            folder = self.server.folder(match[1], match[2])
            assert folder is not None
            return self._file(match[3], folder / match[3], {})
        if match := _RESOLVE.fullmatch(path):
            return self._resolve("datasets" if match[1] else "models", match[2], match[3], match[4])
        self._refuse(404, "")

    def _api(self, kind: str, repo: str, what: str | None, revision: str | None) -> None:
        if self._allowed(kind, repo) is None:
            return
        folder = self.server.states(kind, repo).get(revision or "main")
        if folder is None:
            return self._refuse(404, "RevisionNotFound")
        commit = revision_of(folder)
        entries = [_entry(path, file) for path, file in files_of(folder).items()]
        if what == "tree":
            return self._json([{"type": "file", **entry} for entry in entries])
        if what == "paths-info":
            asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["paths"]
            return self._json([{"type": "file", **entry} for entry in entries if entry["path"] in asked])
        siblings = []
        for entry in entries:
            sibling = {"rfilename": entry["path"], "size": entry["size"], "blobId": entry["oid"]}
            if "lfs" in entry:
                sibling["lfs"] = {"sha256": entry["lfs"]["oid"], "size": entry["size"], "pointerSize": 130}
            siblings.append(sibling)
        self._json({"id": repo, "sha": commit, "siblings": siblings, "private": False, "tags": [], "downloads": 0})

    def _resolve(self, kind: str, repo: str, revision: str, path: str) -> None:
        if self._allowed(kind, repo) is None:
            return
        folder = self.server.states(kind, repo).get(revision)
        if folder is None:
            return self._refuse(404, "RevisionNotFound")
        commit = revision_of(folder)
        file = files_of(folder).get(path)
        if file is None:
            return self._refuse(404, "EntryNotFound", {"X-Repo-Commit": commit})
        headers = {"X-Repo-Commit": commit}
        if not _is_large(path):
            return self._file(path, file, {**headers, "ETag": f'"{_git_name(file)}"'})
        headers["X-Linked-Etag"], headers["X-Linked-Size"] = f'"{sha256_of(file)}"', str(file.stat().st_size)
        place = f"{self.server.cdn}/_cdn/{folder.relative_to(self.server.root).as_posix()}/{path}"
        self._head(302, {**headers, "Location": place, "Content-Length": "0"})

    def _modelscope(self, kind: str, repo: str, revision: str, path: str) -> None:
        folder = self.server.folder(kind, repo)
        if folder is None or revision not in ("master", revision_of(folder)) or path not in files_of(folder):
            return self._refuse(404, "")
        self._file(path, files_of(folder)[path], {})

    def _allowed(self, kind: str, repo: str) -> Path | None:
        """The folder of a repository, or None after a refusal."""
        known = self.headers.get("Authorization") == f"Bearer {self.server.token}"
        folder = self.server.folder(kind, repo)
        if repo in self.server.gated and not known:
            self._refuse(403 if self.headers.get("Authorization") else 401, "GatedRepo")
            return None
        if folder is None or (repo in self.server.private and not known):
            self._refuse(401 if not known else 404, "RepoNotFound")
            return None
        return folder

    def _file(self, path: str, file: Path, headers: dict[str, str]) -> None:
        data = file.read_bytes()
        fault = self.server.fault(path) if self.command == "GET" else None
        what = fault.what if fault else None
        if fault and what == "status":
            return self._head(fault.status, {**fault.headers, "Content-Length": "0"})
        start, status = 0, 200
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if asked and what not in ("no-range", "drop-no-range"):
            start, status = int(asked[1]), 206
            if start >= len(data):
                return self._head(416, {"Content-Range": f"bytes */{len(data)}", "Content-Length": "0"})
            said = start + 1 if what == "wrong-range" else start
            headers["Content-Range"] = f"bytes {said}-{len(data) - 1}/{len(data)}"
        body = data[start:]
        if what == "change":
            body = bytes([body[0] ^ 1]) + body[1:]
        if fault and what == "more":
            body += b"x" * fault.extra
        length = len(body) + (fault.extra if fault and what == "length" else 0)
        if what in ("no-length", "more"):
            headers["Connection"] = "close"
        else:
            headers["Content-Length"] = str(length)
        self._head(status, {"Accept-Ranges": "bytes", **headers})
        if self.command == "GET":
            part = fault.share if fault and what in _PARTIAL else 1.0
            self._send(body[: int(len(body) * part)])
        if what == "silence":
            time.sleep(0.5)
        if what == "hold":
            self.server.release.wait(30)
        if what is not None:
            self.close_connection = True

    def _send(self, body: bytes) -> None:
        server = self.server
        with server.lock:
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        try:
            for start in range(0, len(body), _BLOCK):
                block = body[start : start + _BLOCK]
                self.wfile.write(block)
                self.entry.sent += len(block)
                if server.slow:
                    time.sleep(len(block) / server.slow)
        finally:
            with server.lock:
                server.at_once -= 1

    def _json(self, value: Any) -> None:
        self._body("application/json", json.dumps(value).encode())

    def _body(self, kind: str, body: bytes) -> None:
        self._head(200, {"Content-Type": kind, "Content-Length": str(len(body))})
        self.wfile.write(body)

    def _refuse(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self._head(status, {**(headers or {}), **({"X-Error-Code": code} if code else {}), "Content-Length": "0"})

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.entry.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def _entry(path: str, file: Path) -> dict[str, Any]:
    size = file.stat().st_size
    entry: dict[str, Any] = {"path": path, "size": size, "oid": _git_name(file)}
    if _is_large(path):
        entry["lfs"] = {"oid": sha256_of(file), "size": size, "pointerSize": 130}
    return entry


@contextmanager
def serving(root: Path, slow: float = 0.0, log: Path | None = None) -> Iterator[HubServer]:
    """A server in a thread of this process, stopped at the end."""
    with HubServer(root, slow, log) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description="A hub on the loopback interface.")
    parser.add_argument("--root", type=Path, required=True, help="folder of models/ and datasets/")
    parser.add_argument("--port-file", type=Path, required=True, help="the port is written here")
    parser.add_argument(
        "--slow", type=float, default=0.0, help="bytes a second of one file, 0 = as fast as it goes"
    )
    parser.add_argument("--log", type=Path, help="requests are appended here as JSON lines")
    arguments = parser.parse_args()
    with HubServer(arguments.root, arguments.slow, arguments.log) as server:
        temporary = arguments.port_file.with_suffix(".new")
        temporary.write_text(str(server.server_port), encoding="utf-8")
        temporary.replace(arguments.port_file)
        server.serve_forever()


if __name__ == "__main__":
    main()

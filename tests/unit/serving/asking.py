"""Requests as clients write them, and what comes back, in process."""

import asyncio
import base64
import io
import json

from tests.unit.evaluation.toys import picture

NAME = "minivlm-tiny"
CHAT = "/v1/chat/completions"
QUESTION = "请详细描述这张图片。"


def data_uri(image=None, kind="PNG"):
    """A picture as a data: URI; noise unless one is given."""
    stream = io.BytesIO()
    (image or picture(1)).save(stream, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"


def shown(url, text=QUESTION):
    """A user's message with a picture and a question."""
    return {
        "role": "user",
        "content": [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}],
    }


def request(*messages, **settings):
    """The body of a request."""
    return {"model": NAME, "messages": list(messages) or [shown(data_uri())]} | settings


def chunks(response):
    """The chunks of a stream, which ends with [DONE]."""
    *lines, last = [line for line in response.text.split("\n\n") if line]
    assert last == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


class Client:
    """One ASGI request, step by step: what is sent is given, what comes is kept; a client can leave."""

    def __init__(self, app, body=b"", path=CHAT, *, more=False, method="POST", headers=()):
        self.sent = asyncio.Queue()
        self.heard = []
        self.sent.put_nowait({"type": "http.request", "body": body, "more_body": more})
        given = {"content-type": "application/json"} | dict(headers)
        sent = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in given.items()]
        scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1"}
        scope |= {"method": method, "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b""}
        scope |= {"root_path": "", "headers": sent, "client": None, "server": None, "state": {}}
        self.task = asyncio.create_task(app(scope, self.sent.get, self._hear))

    async def _hear(self, message):
        self.heard.append(message)

    def leave(self):
        """Close the connection."""
        self.sent.put_nowait({"type": "http.disconnect"})

    async def until(self, count):
        """Until so many messages have come."""
        while len(self.heard) < count:
            await asyncio.sleep(0.001)

    @property
    def status(self):
        return self.heard[0]["status"]

    @property
    def headers(self):
        return {name.decode(): value.decode() for name, value in self.heard[0]["headers"]}

    @property
    def body(self):
        return b"".join(message.get("body", b"") for message in self.heard[1:])

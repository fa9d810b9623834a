"""transformers' handler of `/v1/chat/completions`, with what this project adds on the way in and out.

From transformers: the form of its answers and chunks, the thread that computes, the application around it. Ours:
what is read of a request, the prompt (what people type stays text), stop strings, limits, the end of a stream.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi.responses import JSONResponse, StreamingResponse
from openai.types.chat import ChatCompletionChunk
from openai.types.completion_usage import CompletionUsage
from transformers.cli.serving.chat_completion import ChatCompletionHandler
from transformers.cli.serving.model_manager import ModelManager
from transformers.cli.serving.utils import GenerationState

from minivlm.serving.answering import Answerer
from minivlm.serving.errors import RequestError, fault
from minivlm.serving.listening import Begun, Ended, Listener
from minivlm.serving.request import read_request
from minivlm.serving.visit import CURRENT

LOG = logging.getLogger("minivlm.serving")
# No cache keeps a stream, and no proxy waits for its end.
_STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class OneModel(ModelManager):
    """transformers' manager of models with the one that is there: nothing is loaded or unloaded later."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.entry = {"id": name, "object": "model", "created": int(time.time()), "owned_by": "minivlm"}

    def get_gen_models(self, cache_dir: str | None = None) -> list[dict[str, Any]]:
        """What `/v1/models` lists."""
        return [self.entry]

    def load_model_and_processor(self, *_: Any, **__: Any) -> Any:
        """Never: transformers would load whatever a request names."""
        raise RequestError(404, "this server loads no models", code="model_not_found")


class ChatHandler(ChatCompletionHandler):
    """Answers chat requests with one model."""

    def __init__(self, answerer: Answerer, name: str) -> None:
        state = GenerationState()
        super().__init__(OneModel(name), state)
        self.name, self._answerer, self._thread = name, answerer, state.get_manager(name)

    async def handle_request(self, body: Mapping[str, Any], request_id: str) -> StreamingResponse | JSONResponse:
        """The answer to a request, whole or as a stream; RequestError when it is refused.

        A stream begins once the pictures are read and the prompt fits: what is wrong with them is a 400.
        """
        asked, visit = read_request(body, self.name, self._answerer.limits), CURRENT.get()
        listener = Listener(visit.over)
        visit.job = self._thread.submit(self._answerer.answer, asked, visit, listener)
        begun = await listener.begun()
        if asked.stream:
            chunks = self._chunks(request_id, listener, begun if asked.include_usage else None)
            return StreamingResponse(chunks, media_type="text/event-stream", headers=_STREAM_HEADERS)
        text = "".join([piece async for piece in listener.pieces()])
        ended = listener.ended
        usage = _usage(begun, ended)
        return JSONResponse(
            self._build_completion(request_id, text, self.name, finish_reason=ended.reason, usage=usage)
        )

    async def _chunks(self, request_id: str, listener: Listener, with_usage: Begun | None) -> AsyncIterator[str]:
        """The chunks of a stream, as OpenAI sends them: role, pieces, reason, usage where asked for, [DONE]."""
        yield self._build_chunk_sse(request_id, role="assistant", content="", model=self.name)
        try:
            async for piece in listener.pieces():
                yield self._build_chunk_sse(request_id, content=piece, model=self.name)
        except Exception:
            LOG.exception("an answer could not be computed to its end")
            yield self.chunk_to_sse(json.dumps(fault().body()))
            return
        yield self._build_chunk_sse(request_id, finish_reason=listener.ended.reason, model=self.name)
        if with_usage:
            chunk = ChatCompletionChunk(
                id=request_id,
                created=int(time.time()),
                model=self.name,
                choices=[],
                usage=_usage(with_usage, listener.ended),
                object="chat.completion.chunk",
            )
            yield self.chunk_to_sse(chunk)
        yield self.chunk_to_sse("[DONE]")


def _usage(begun: Begun, ended: Ended) -> CompletionUsage:
    total = begun.prompt_tokens + ended.tokens
    return CompletionUsage(prompt_tokens=begun.prompt_tokens, completion_tokens=ended.tokens, total_tokens=total)

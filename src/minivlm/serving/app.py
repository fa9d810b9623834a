"""transformers' server for one model: its application, with the routes that this model has a use for."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from transformers.cli.serving.server import build_server
from transformers.cli.serving.utils import GenerationState

from minivlm.data.strict_json import shown
from minivlm.serving.answering import Answerer
from minivlm.serving.door import CHAT, Door
from minivlm.serving.errors import RequestError, fault
from minivlm.serving.handler import ChatHandler
from minivlm.serving.visit import CURRENT

MODELS, MODEL, HEALTH = "/v1/models", "/v1/models/{name}", "/health"
PATHS = frozenset((CHAT, MODELS, HEALTH))


def build_app(answerer: Answerer, name: str) -> Door:
    """The ASGI application that serves a model under a name.

    Of transformers' routes chat completions, the list of models and health stay. The others are closed: they load
    and unload models, take audio, or are pages that bring code from elsewhere.
    """
    handler = ChatHandler(answerer, name)
    closed: Any = None  # handlers of routes that are taken out
    app = build_server(handler.model_manager, handler, closed, closed, closed, closed, GenerationState())
    app.router.routes[:] = [route for route in app.router.routes if getattr(route, "path", None) in PATHS]

    @app.get(MODEL)
    def one_model(name: str) -> JSONResponse:
        if name != handler.name:
            said = f"no model {shown(name)} here; this server has {handler.name}"
            raise RequestError(404, said, code="model_not_found", param="model")
        return JSONResponse(handler.model_manager.entry)

    _say_errors_as_openai(app)
    return Door(app, answerer.limits, PATHS)


def _say_errors_as_openai(app: FastAPI) -> None:
    """Every refusal as the JSON that OpenAI's clients read, and its code for the log."""

    def answered(error: RequestError) -> JSONResponse:
        CURRENT.get().refusal = error.code
        return JSONResponse(error.body(), error.status, error.headers())

    @app.exception_handler(RequestError)
    async def refused(request: Request, error: RequestError) -> JSONResponse:
        return answered(error)

    @app.exception_handler(RequestValidationError)
    async def no_object(request: Request, error: Exception) -> JSONResponse:
        said = "the body of a request is a JSON object, with Content-Type: application/json"
        return answered(RequestError(400, said, code="invalid_json"))

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 400:  # FastAPI's, of JSON so deep that Python cannot read it
            return await no_object(request, error)
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
        said = f"{error.detail}; this server has {', '.join(sorted(PATHS))}"
        return answered(RequestError(error.status_code, said, code=code))

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> JSONResponse:
        return answered(fault())

"""Answers that are not our JSON: problems and images; and how OpenAPI describes them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from vladkit.core.names import one_line
from vladkit.errors import VladkitError
from vladkit.web.problems import Problem, problem_of
from vladkit.web.schemas import ProblemInfo

__all__ = [
    "AS_JPEG",
    "PROBLEM",
    "PROBLEM_HANDLERS",
    "DescribedApp",
    "ProblemResponse",
    "jpeg_response",
]

PROBLEM: Final[dict[str, Any]] = {"model": ProblemInfo, "description": "What went wrong"}

AS_JPEG: Final[dict[str, Any]] = {
    "response_class": Response,
    "responses": {
        200: {"content": {"image/jpeg": {}}, "description": "A JPEG file"},
        304: {"description": "Not modified"},
    },
}
"""Options of a route that answers with a JPEG file."""


def jpeg_response(request: Request, data: bytes, tag: str) -> Response:
    """A JPEG file, or 304 if the client has the one that `tag` names."""
    headers = {"cache-control": "private, max-age=3600", "etag": tag}
    held = request.headers.get("if-none-match", "").split(",")
    if any(each.strip().removeprefix("W/") in (tag, "*") for each in held):
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="image/jpeg", headers=headers)


class ProblemResponse(Response):
    """A `Problem`; whatever the client is still sending is read for a moment, and dropped.

    A client that sends a large file reads no answer before all is sent, and a connection that is
    closed meanwhile takes the answer with it.
    """

    _SECONDS: Final = 2.0

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.body(), problem.status)
        self.raw_headers = problem.headers()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an ASGI request."""
        headers = list(self.raw_headers)
        if scope["method"] not in ("GET", "HEAD"):  # what it still sends would count as a request
            headers.append((b"connection", b"close"))
        start = {"type": "http.response.start", "status": self.status_code}
        await send(start | {"headers": headers})
        await send({"type": "http.response.body", "body": bytes(self.body), "more_body": True})
        try:
            async with asyncio.timeout(self._SECONDS):
                while (await receive()).get("more_body"):
                    pass
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b""})


class DescribedApp(FastAPI):
    """A FastAPI app whose description has the content type of problems.

    FastAPI describes every model as application/json.
    """

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI description, made once."""
        if self.openapi_schema is None:
            for methods in super().openapi()["paths"].values():
                for operation in methods.values():
                    for status, response in operation["responses"].items():
                        if status[0] in "45":
                            content = response["content"]
                            content["application/problem+json"] = content.pop("application/json")
        return super().openapi()


async def _on_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return ProblemResponse(error)


async def _on_library_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, VladkitError)
    problem = problem_of(error)
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        logging.getLogger("uvicorn.error").error(
            "%s", one_line(str(error))
        )  # the client gets no details
    return ProblemResponse(problem)


async def _on_bad_parameters(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # ("query", "id", 0): kind, name, and the place where there are several
    reasons = (f"{each['loc'][:2][-1]}: {each['msg']}" for each in error.errors())
    return ProblemResponse(Problem(422, "; ".join(reasons)))


async def _on_no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = ProblemResponse(Problem(error.status_code, error.detail))
    if error.headers and "Allow" in error.headers:  # 405; names the first of the path's routes
        allowed = [method for method in ("GET", "POST") if _is_allowed(request, method)]
        response.raw_headers.append((b"allow", ", ".join(allowed).encode()))
    return response


def _is_allowed(request: Request, method: str) -> bool:
    scope = {**request.scope, "method": method}
    return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)


async def _on_fault(_: Request, error: Exception) -> Response:
    return ProblemResponse(Problem(500, "a fault of the server; its terminal says more"))


PROBLEM_HANDLERS: Final[
    dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]]
] = {
    Exception: _on_fault,
    Problem: _on_problem,
    VladkitError: _on_library_error,
    RequestValidationError: _on_bad_parameters,
    HTTPException: _on_no_route,
}
"""Handlers of an app that answer every error with problem JSON."""

"""Answers that are no JSON of ours: problems and images; and how OpenAPI describes them."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from vladkit.errors import VladkitError
from vladkit.web.problems import Problem, problem_of
from vladkit.web.schemas import ProblemInfo

__all__ = [
    "AS_JPEG",
    "PROBLEM",
    "DescribedApp",
    "ProblemResponse",
    "add_problems",
    "as_it_was",
    "jpeg",
]

PROBLEM: Final[dict[str, Any]] = {"model": ProblemInfo, "description": "What went wrong"}

AS_JPEG: Final[dict[str, Any]] = {
    "response_class": Response,
    "responses": {
        200: {"content": {"image/jpeg": {}}, "description": "A JPEG file"},
        304: {"description": "It is as it was"},
    },
}
"""Options of a route that answers with a JPEG file."""


def jpeg(request: Request, data: bytes, tag: str) -> Response:
    """A JPEG file, or word that the client has it already."""
    headers = {"cache-control": "private, max-age=3600", "etag": tag}
    if as_it_was(request, tag):
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="image/jpeg", headers=headers)


def as_it_was(request: Request, tag: str) -> bool:
    """Whether the client has what the tag names."""
    return request.headers.get("if-none-match") == tag


class ProblemResponse(Response):
    """A `Problem`; what a client is still sending is read for a moment, and dropped.

    Whoever sends a large file reads no answer before all is sent, and a connection that is closed
    on it takes the answer with it.
    """

    _SECONDS: Final = 2.0

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.body(), problem.status)
        self.raw_headers = problem.headers()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as ASGI asks."""
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
    """FastAPI says that every model is sent as application/json; ours of problems are not."""

    def openapi(self) -> dict[str, Any]:
        """The description, made once."""
        if self.openapi_schema is None:
            for methods in super().openapi()["paths"].values():
                for operation in methods.values():
                    for status, response in operation["responses"].items():
                        if status[0] in "45":
                            content = response["content"]
                            content["application/problem+json"] = content.pop("application/json")
        return super().openapi()


def add_problems(app: FastAPI) -> None:
    """Have every error answered by problem JSON."""

    async def of_problem(_: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return ProblemResponse(error)

    async def of_library(_: Request, error: Exception) -> Response:
        assert isinstance(error, VladkitError)
        problem = problem_of(error)
        if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            logging.getLogger("uvicorn.error").error("%s", error)  # what clients are not told
        return ProblemResponse(problem)

    async def of_parameters(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        said = (f"{each['loc'][-1]}: {each['msg']}" for each in error.errors())
        return ProblemResponse(Problem(422, "; ".join(said)))

    async def of_routing(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        response = ProblemResponse(Problem(error.status_code, error.detail))
        for name, value in (error.headers or {}).items():  # Allow, with 405
            response.raw_headers.append((name.lower().encode(), value.encode()))
        return response

    async def of_fault(_: Request, error: Exception) -> Response:
        return ProblemResponse(Problem(500, "a fault of the server; its terminal says more"))

    app.add_exception_handler(Exception, of_fault)
    app.add_exception_handler(Problem, of_problem)
    app.add_exception_handler(VladkitError, of_library)
    app.add_exception_handler(RequestValidationError, of_parameters)
    app.add_exception_handler(HTTPException, of_routing)

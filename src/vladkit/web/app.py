"""The HTTP API, and the files of the page.

No path of a client reaches the collection's files: images are named by their number. The files of
the page are those of the folder ``static``.
"""

from __future__ import annotations

import mimetypes
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.staticfiles import StaticFiles

from vladkit.core.version import __version__
from vladkit.images import one_opencv_thread
from vladkit.web import routes_images, routes_search
from vladkit.web.engine import Engine
from vladkit.web.responses import PROBLEM, PROBLEM_HANDLERS, DescribedApp

__all__ = ["make_app"]

# On Windows the types of files are in the registry, where other programs change them.
mimetypes.add_type("text/javascript", ".js")


class _PageFiles(StaticFiles):
    """Files that a browser keeps, but asks for each time: mostly the answer is 304."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "no-cache"  # else a new version would come days later
        return response


_page_files = _PageFiles(directory=Path(__file__).with_name("static"))


def make_app(engine: Engine) -> FastAPI:
    """The app over one engine."""
    app = DescribedApp(
        title="vladkit",
        version=__version__,
        summary="Search a collection of images with an image.",
        openapi_url="/api/openapi.json",
        docs_url=None,  # loads its scripts from elsewhere; static/docs.html does not
        redoc_url=None,
        lifespan=_lifespan,
        responses={"4XX": PROBLEM, 503: PROBLEM},
        exception_handlers=PROBLEM_HANDLERS,
    )
    app.state.engine = engine
    app.include_router(routes_images.router)
    app.include_router(routes_search.router)
    app.get("/", include_in_schema=False)(_index)
    app.get("/docs", include_in_schema=False)(_docs)
    app.mount("/static", _page_files)
    return app


async def _index(request: Request) -> Response:
    return await _page_files.get_response("index.html", request.scope)


async def _docs(request: Request) -> Response:
    return await _page_files.get_response("docs.html", request.scope)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    with one_opencv_thread():
        yield
    app.state.engine.close()  # here: on SIGTERM uvicorn ends the process right after this

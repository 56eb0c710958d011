"""The HTTP API, and the page's files.

No path of a client's reaches the file system: images are named by their number in the collection,
and the page's files are those of a fixed list.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Final

from fastapi import FastAPI, Request, Response

from vladkit.core.version import __version__
from vladkit.images import one_opencv_thread
from vladkit.web.engine import Engine
from vladkit.web.limits import Limits
from vladkit.web.responses import PROBLEM, DescribedApp, add_problems, as_it_was
from vladkit.web.routes_images import looking
from vladkit.web.routes_search import searching

__all__ = ["make_app"]

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def make_app(engine: Engine, limits: Limits) -> FastAPI:
    """The app over one engine."""
    app = DescribedApp(
        title="vladkit",
        version=__version__,
        summary="Search a collection of images with an image.",
        openapi_url="/api/openapi.json",
        docs_url=None,  # loads its scripts from elsewhere; static/docs.html does not
        redoc_url=None,
        lifespan=partial(_lifespan, engine),
        responses={"4XX": PROBLEM, 503: PROBLEM},
    )
    add_problems(app)
    app.include_router(looking(engine, limits))
    app.include_router(searching(engine, limits))
    _add_page(app)
    return app


@asynccontextmanager
async def _lifespan(engine: Engine, _: FastAPI) -> AsyncIterator[None]:
    with one_opencv_thread():
        yield
    engine.close()  # here: of SIGTERM uvicorn ends the process, and nothing after it is reached


def _add_page(app: FastAPI) -> None:
    folder = files("vladkit.web") / "static"
    contents = {
        each.name: (each.read_bytes(), _TYPES[Path(each.name).suffix])
        for each in folder.iterdir()
        if Path(each.name).suffix in _TYPES
    }

    def giver(name: str) -> Callable[[Request], Awaitable[Response]]:
        data, media_type = contents[name]
        tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        headers = {"cache-control": "no-cache", "etag": tag}

        async def give(request: Request) -> Response:
            if as_it_was(request, tag):
                return Response(status_code=304, headers=headers)
            return Response(data, media_type=media_type, headers=headers)

        return give

    app.get("/", include_in_schema=False)(giver("index.html"))
    app.get("/docs", include_in_schema=False)(giver("docs.html"))
    for name in contents:
        app.get(f"/static/{name}", include_in_schema=False)(giver(name))

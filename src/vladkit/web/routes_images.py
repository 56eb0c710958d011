"""Routes that show the collection: its contents, and its images."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, Literal, TypeAlias
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import StreamingResponse

from vladkit.collection.changed import changed_images
from vladkit.collection.collection import Collection
from vladkit.core.version import __version__
from vladkit.errors import ImageError
from vladkit.geometry.verification import MIN_INLIERS
from vladkit.store.rows import ImageRow
from vladkit.web import schemas
from vladkit.web.dependencies import MAX_ID, EngineOfApp
from vladkit.web.engine import MEDIA_TYPES, Engine, version_of
from vladkit.web.limits import MAX_PAGE
from vladkit.web.problems import Problem
from vladkit.web.responses import AS_JPEG, jpeg_response

__all__ = ["PREVIEW_SIDE", "image_fields", "router"]

router = APIRouter()

PREVIEW_SIDE: Final = 1600
"""Longer side of a preview in px: more than most screens show of an image beside another."""

_CHUNK: Final = 1 << 18
"""Bytes of a file that are read and sent at a time."""

ImageId: TypeAlias = Annotated[int, InPath(ge=-MAX_ID, le=MAX_ID)]
Offset: TypeAlias = Annotated[int, Query(ge=0, le=MAX_ID)]
Limit: TypeAlias = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Contains: TypeAlias = Annotated[
    str, Query(max_length=500, description="Only paths that contain this text")
]


@router.get("/api/health", tags=["collection"])
async def health(engine: EngineOfApp) -> schemas.Health:
    """Say whether the collection can be read."""
    n, state = await engine.pool.lookup(
        lambda collection: (len(collection), collection.index.searcher.state())
    )
    return schemas.Health(status="ok", version=__version__, images=n, state=state)


@router.get("/api/info", tags=["collection"])
async def info(engine: EngineOfApp) -> schemas.Info:
    """Describe the collection, and how much a request may ask for."""
    about = await engine.pool.lookup(Collection.info)
    limits = engine.limits
    return schemas.Info(
        name=Path(about["file"]).name,
        keeps_features=bool(about["recipe"]["keep_features"]),
        version=__version__,
        limits=schemas.LimitsInfo(
            upload_bytes=limits.upload_bytes, upload_pixels=limits.upload_pixels
        ),
        min_inliers=MIN_INLIERS,
        **{name: about[name] for name in schemas.Info.model_fields if name in about},
    )


@router.get("/api/images", tags=["collection"])
async def images(
    engine: EngineOfApp, offset: Offset = 0, limit: Limit = 60, contains: Contains = ""
) -> schemas.ImagePage:
    """List the images, by source and path."""

    def page(collection: Collection) -> tuple[int, list[ImageRow], set[int]]:
        total, rows = collection.page(offset, limit, contains=contains)
        return total, rows, changed_images(collection.index, rows)

    total, rows, changed = await engine.pool.lookup(page)
    items = [schemas.ImageInfo(**image_fields(row, changed)) for row in rows]
    return schemas.ImagePage(total=total, offset=offset, items=items)


@router.get("/api/skipped", tags=["collection"])
async def skipped(
    engine: EngineOfApp, offset: Offset = 0, limit: Limit = 60, contains: Contains = ""
) -> schemas.SkippedPage:
    """List the images that could not be used, with the reasons."""
    total, rows = await engine.pool.lookup(
        Collection.page, offset, limit, contains=contains, skipped=True
    )
    items = [
        schemas.SkippedInfo(id=row.image_id, path=row.path, reason=row.skipped or "")
        for row in rows
    ]
    return schemas.SkippedPage(total=total, offset=offset, items=items)


@router.get("/api/images/{image_id}", tags=["images"])
async def image(engine: EngineOfApp, image_id: ImageId) -> schemas.ImageInfo:
    """Describe one image; its size is read from the file if it is not known otherwise."""
    return schemas.ImageInfo(**image_fields(*await engine.image(image_id)))


@router.get("/api/images/{image_id}/thumbnail", tags=["images"], **AS_JPEG)
async def thumbnail(
    request: Request,
    engine: EngineOfApp,
    image_id: ImageId,
    side: Literal["160", "320", "640"] = "320",
) -> Response:
    """Give a small JPEG of an image."""
    return await _shrunk(request, engine, image_id, int(side))


@router.get("/api/images/{image_id}/preview", tags=["images"], **AS_JPEG)
async def preview(request: Request, engine: EngineOfApp, image_id: ImageId) -> Response:
    """Give an image upright, as JPEG of at most 1600 px."""
    return await _shrunk(request, engine, image_id, PREVIEW_SIDE)


@router.get(
    "/api/images/{image_id}/file",
    tags=["images"],
    response_class=StreamingResponse,
    responses={200: {"content": {name: {} for name in MEDIA_TYPES.values()}}},
)
async def file(engine: EngineOfApp, image_id: ImageId) -> Response:
    """Give the file of an image as it is."""
    try:
        opened, media_type, path = await engine.file(image_id)
    except ImageError as error:
        raise _unreadable(error) from None
    name = quote(Path(path).name.encode("utf-8", "replace"))
    return StreamingResponse(
        _chunks(opened),
        media_type=media_type,
        headers={
            "content-length": str(_size(opened)),
            "content-disposition": f"inline; filename*=utf-8''{name}",
            "content-security-policy": "default-src 'none'; sandbox",
            "cache-control": "private, max-age=3600",
        },
    )


async def _shrunk(request: Request, engine: Engine, image_id: int, side: int) -> Response:
    try:
        data, tag = await engine.thumbnail(image_id, side)
    except ImageError as error:
        raise _unreadable(error) from None
    return jpeg_response(request, data, tag)


def _unreadable(error: ImageError) -> Problem:
    return Problem(404, f"the file of this image cannot be read: {error}")


def _size(opened: BinaryIO) -> int:
    """Size of an open file in bytes; reading goes on at its start."""
    n_bytes = opened.seek(0, os.SEEK_END)
    opened.seek(0)
    return n_bytes


def _chunks(opened: BinaryIO) -> Iterator[bytes]:
    """The bytes of an open file, which is then closed: no other can be sent in its place."""
    with opened:
        while chunk := opened.read(_CHUNK):
            yield chunk


def image_fields(row: ImageRow, changed: Container[int]) -> dict[str, Any]:
    """The fields of `vladkit.web.schemas.ImageInfo`; `changed`: see `changed_images`."""
    address = f"/api/images/{row.image_id}"
    version = f"v={version_of(row)}"  # another address for another file, or one indexed again
    return {
        "id": row.image_id,
        "path": row.path,
        "width": row.width,
        "height": row.height,
        "n_features": row.n_local or 0,
        "thumbnail": f"{address}/thumbnail?{version}",
        "preview": f"{address}/preview?{version}",
        "file": f"{address}/file?{version}",
        "changed": row.image_id in changed,
    }

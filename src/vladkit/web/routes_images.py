"""Routes that show the collection: what is in it, and its images."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse

from vladkit.collection.collection import Collection
from vladkit.core.version import __version__
from vladkit.errors import ImageError
from vladkit.geometry.verification import MIN_INLIERS
from vladkit.images.decode import read_bytes
from vladkit.images.header import image_kind
from vladkit.store.rows import ImageRow
from vladkit.web import schemas as answers
from vladkit.web.engine import Engine, indexed
from vladkit.web.limits import MOST_LISTED, Limits
from vladkit.web.problems import Problem
from vladkit.web.responses import AS_JPEG, jpeg

__all__ = ["about_image", "looking"]

IMAGE_SIDE: Final = 1600

_TYPES: Final = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WebP": "image/webp",
    "GIF": "image/gif",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
    "PNM": "image/x-portable-anymap",
}

_Id = Annotated[int, InPath(ge=-(2**62), le=2**62)]  # SQLite's integers end there
_Offset = Annotated[int, Query(ge=0, le=2**62)]
_Limit = Annotated[int, Query(ge=1, le=MOST_LISTED)]
_Contains = Annotated[str, Query(max_length=500, description="Text that paths have in them")]


def looking(engine: Engine, limits: Limits) -> APIRouter:
    """The routes over one engine."""
    router = APIRouter()

    @router.get("/api/health", tags=["collection"])
    async def health() -> answers.Health:
        """Say whether the collection can be read."""
        n = await engine.look_thread(len)
        return answers.Health(status="ok", version=__version__, images=n)

    @router.get("/api/info", tags=["collection"])
    async def info() -> answers.Info:
        """Say what is in the collection, and what may be asked for."""
        about = await engine.look_thread(Collection.info)
        return answers.Info(
            name=Path(about["file"]).name,
            keeps_features=bool(about["recipe"]["keep_features"]),
            version=__version__,
            limits=answers.LimitsInfo(
                upload_bytes=limits.upload_bytes, upload_pixels=limits.upload_pixels
            ),
            min_inliers=MIN_INLIERS,
            **{name: about[name] for name in answers.Info.model_fields if name in about},
        )

    async def page(
        offset: int, limit: int, contains: str, *, skipped: bool
    ) -> tuple[int, list[ImageRow]]:
        def look(collection: Collection) -> tuple[int, list[ImageRow]]:
            return collection.page(offset, limit, contains=contains, skipped=skipped)

        return await engine.look_thread(look)

    @router.get("/api/images", tags=["collection"])
    async def images(
        offset: _Offset = 0, limit: _Limit = 60, contains: _Contains = ""
    ) -> answers.ImagePage:
        """List the images, by source and path."""
        total, rows = await page(offset, limit, contains, skipped=False)
        items = [answers.ImageInfo(**about_image(row)) for row in rows]
        return answers.ImagePage(total=total, offset=offset, items=items)

    @router.get("/api/skipped", tags=["collection"])
    async def skipped(
        offset: _Offset = 0, limit: _Limit = 60, contains: _Contains = ""
    ) -> answers.SkippedPage:
        """List the images that could not be used, with the reasons."""
        total, rows = await page(offset, limit, contains, skipped=True)
        items = [
            answers.SkippedInfo(id=row.image_id, path=row.path, reason=row.skipped or "")
            for row in rows
        ]
        return answers.SkippedPage(total=total, offset=offset, items=items)

    @router.get("/api/images/{image_id}", tags=["images"])
    async def image(image_id: _Id) -> answers.ImageInfo:
        """Describe one image."""
        row = await engine.look_thread(lambda collection: indexed(collection, image_id))
        return answers.ImageInfo(**about_image(row))

    @router.get("/api/images/{image_id}/thumbnail", tags=["images"], **AS_JPEG)
    async def thumbnail(
        request: Request, image_id: _Id, side: Literal["160", "320", "640"] = "320"
    ) -> Response:
        """Give it small, as JPEG."""
        return await shrunk(request, image_id, int(side))

    @router.get("/api/images/{image_id}/image", tags=["images"], **AS_JPEG)
    async def full_image(request: Request, image_id: _Id) -> Response:
        """Give it upright, as JPEG of at most 1600 px."""
        return await shrunk(request, image_id, IMAGE_SIDE)

    async def shrunk(request: Request, image_id: int, side: int) -> Response:
        make = partial(engine.thumbnail, image_id=image_id, side=side)
        try:
            data, tag = await engine.look_thread(make)
        except ImageError as error:
            raise Problem(404, f"the file of this image cannot be read: {error}") from None
        return jpeg(request, data, tag)

    @router.get(
        "/api/images/{image_id}/file",
        tags=["images"],
        response_class=FileResponse,
        responses={200: {"content": {name: {} for name in _TYPES.values()}}},
    )
    async def file(image_id: _Id) -> Response:
        """Give the file itself."""
        where, media_type = await engine.look_thread(partial(_file, image_id))
        name = quote(Path(where).name.encode("utf-8", "replace"))
        return FileResponse(
            where,
            media_type=media_type,
            headers={
                "content-disposition": f"inline; filename*=utf-8''{name}",
                "content-security-policy": "default-src 'none'; sandbox",
                "cache-control": "private, max-age=3600",
            },
        )

    return router


def about_image(row: ImageRow) -> dict[str, Any]:
    """The fields of `vladkit.web.schemas.ImageInfo`."""
    where = f"/api/images/{row.image_id}"
    version = f"v={row.mtime_ns:x}"  # another address for a file that was indexed anew
    return {
        "id": row.image_id,
        "path": row.path,
        "width": row.width or 1,
        "height": row.height or 1,
        "n_features": row.n_local or 0,
        "thumbnail": f"{where}/thumbnail?{version}",
        "image": f"{where}/image?{version}",
        "file": f"{where}/file?{version}",
    }


def _file(image_id: int, collection: Collection) -> tuple[str, str]:
    """Where an image is and of what type; a `Problem` of 404 if there is none any more."""
    where = indexed(collection, image_id).file
    try:
        kind = image_kind(read_bytes(where, 64))
    except ImageError as error:
        raise Problem(404, f"the file of this image cannot be read: {error}") from None
    if kind not in _TYPES:  # whatever was put in its place
        raise Problem(404, "the file of this image is no image any more")
    return where, _TYPES[kind]

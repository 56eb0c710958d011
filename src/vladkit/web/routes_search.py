"""Routes that search, with an image that is sent or with one of the collection."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request, Response

from vladkit.collection.collection import Collection
from vladkit.geometry.verification import MIN_INLIERS, Model, Verification
from vladkit.images import Region
from vladkit.web import schemas as answers
from vladkit.web.engine import Engine, Found
from vladkit.web.engine import Query as EngineQuery
from vladkit.web.limits import MOST_RERANKED, MOST_RESULTS, Limits
from vladkit.web.problems import Problem
from vladkit.web.responses import AS_JPEG, jpeg
from vladkit.web.routes_images import IMAGE_SIDE, about_image
from vladkit.web.uploads import Receiving

__all__ = ["searching"]

_MOST_EXPANDED: Final = 50

_Id = Annotated[int | None, Query(ge=0, le=2**62, description="An image of the collection")]
_Other = Annotated[int, Query(ge=0, le=2**62, description="The image to match with")]
_Key = Annotated[str | None, Query(max_length=40, description="`query.key` of an earlier answer")]
_Region = Annotated[
    str | None, Query(max_length=60, description="A part of the query: left,top,width,height")
]
_Top = Annotated[int, Query(ge=1, le=MOST_RESULTS, description="How many")]
_Rerank = Annotated[
    int, Query(ge=0, le=MOST_RERANKED, description="Match so many of the first, one by one")
]
_Expand = Annotated[
    int, Query(ge=0, le=_MOST_EXPANDED, description="Search again, joined with so many of these")
]
_Model = Annotated[
    Literal["homography", "fundamental"], Query(description="Geometry that matches have to fit")
]

_UPLOAD: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def searching(engine: Engine, limits: Limits) -> APIRouter:
    """The routes over one engine."""
    router = APIRouter()
    receiving = Receiving(limits)

    async def search(
        make_query: Callable[[Collection], EngineQuery],
        top: int,
        rerank: int,
        expand: int,
        model: Model,
    ) -> answers.Answer:
        def task(collection: Collection) -> Found:
            return engine.search(
                collection, make_query, top=top, rerank=rerank, expand=expand, model=model
            )

        return _answer(await engine.search_thread(task), rerank)

    @router.get("/api/search", tags=["searching"])
    async def search_again(
        id: _Id = None,  # noqa: A002
        query: _Key = None,
        region: _Region = None,
        top: _Top = 24,
        rerank: _Rerank = 0,
        expand: _Expand = 0,
        model: _Model = "homography",
    ) -> answers.Answer:
        """Search with an image of the collection, or with one that was sent before."""
        make_query = _maker(engine, id, query, region)
        return await search(make_query, top, rerank, expand, model)

    @router.post("/api/search", tags=["searching"], openapi_extra=_UPLOAD)
    async def search_with(
        request: Request,
        region: _Region = None,
        top: _Top = 24,
        rerank: _Rerank = 0,
        expand: _Expand = 0,
        model: _Model = "homography",
    ) -> answers.Answer:
        """Search with an image: the body is its file."""
        part = None if region is None else Region.parse(region)
        engine.check_free()
        async with receiving.image(request) as data:
            make_query = partial(engine.upload, data=data, region=part)
            return await search(make_query, top, rerank, expand, model)

    @router.get("/api/match", tags=["searching"])
    async def match(
        other: _Other,
        id: _Id = None,  # noqa: A002
        query: _Key = None,
        region: _Region = None,
        model: _Model = "homography",
    ) -> answers.Match:
        """Match a query with one image, feature by feature."""
        make_query = _maker(engine, id, query, region)

        def task(collection: Collection) -> tuple[EngineQuery, Verification]:
            return engine.match(collection, make_query, other, model)

        made, verification = await engine.search_thread(task)
        transform_33 = verification.transform_33
        return answers.Match(
            **_matched(verification, made),
            transform=None if transform_33 is None else transform_33.tolist(),
            model=verification.model,
        )

    @router.get("/api/queries/{key}/image", tags=["searching"], **AS_JPEG)
    async def query_image(request: Request, key: str) -> Response:
        """Give an image that was sent, upright, as JPEG of at most 1600 px."""
        data = await engine.look_thread(lambda _: engine.preview(key, IMAGE_SIDE))
        return jpeg(request, data, f'"{key}"')

    return router


def _maker(
    engine: Engine, image_id: int | None, key: str | None, region: str | None
) -> Callable[[Collection], EngineQuery]:
    part = None if region is None else Region.parse(region)
    if key is not None and image_id is None:
        return partial(engine.uploaded, key=key, region=part)
    if image_id is not None and key is None:
        return partial(engine.stored, image_id=image_id, region=part)
    raise Problem(422, "give either id, of an image of the collection, or query")


def _answer(found: Found, rerank: int) -> answers.Answer:
    query = found.query
    if query.row is not None:
        image = about_image(query.row)["image"]
    else:
        image = f"/api/queries/{query.key}/image"
    region = query.region
    about = answers.QueryInfo(
        key=query.key,
        id=None if query.row is None else query.row.image_id,
        path=None if query.row is None else query.row.path,
        width=query.width,
        height=query.height,
        region=None if region is None else (region.left, region.top, region.width, region.height),
        n_features=0 if query.features is None else len(query.features),
        image=image,
    )
    results = []
    for rank, (hit, row) in enumerate(found.hits, start=1):
        matched: dict[str, Any] = dict.fromkeys(("inliers", "verified", "points", "outline"))
        if hit.verification is not None:
            matched = _matched(hit.verification, query)
        about_hit = about_image(row) | matched
        results.append(
            answers.ResultInfo(
                rank=rank,
                score=round(hit.score, 6),
                similarity=round(hit.similarity, 6),
                **about_hit,
            )
        )
    return answers.Answer(
        query=about,
        results=results,
        images=found.n_images,
        reranked=min(rerank, found.n_images),
        min_inliers=MIN_INLIERS,
        seconds=answers.Seconds(**found.seconds),
    )


def _matched(verification: Verification, query: EngineQuery) -> dict[str, Any]:
    outline_42 = verification.outline_42(query.shown)
    ends = verification.query_xy_m2.tolist(), verification.match_xy_m2.tolist()
    return {
        "inliers": verification.n_inliers,
        "verified": verification.n_inliers >= MIN_INLIERS,
        "points": [tuple(round(x, 1) for x in (*a, *b)) for a, b in zip(*ends, strict=True)],
        "outline": None if outline_42 is None else outline_42.round(1).tolist(),
    }

"""Routes that search, with an image that is sent or with one of the collection."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import asdict
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from vladkit.geometry.verification import MIN_INLIERS, Verification
from vladkit.images.exif import UNKNOWN
from vladkit.web import schemas
from vladkit.web.dependencies import (
    MAX_ID,
    EngineOfApp,
    Mirrored,
    ModelOfMatches,
    Part,
    Ranking,
    Source,
    Sources,
)
from vladkit.web.engine import SearchAnswer
from vladkit.web.queries import QuerySource, SearchQuery
from vladkit.web.responses import AS_JPEG, jpeg_response
from vladkit.web.routes_images import PREVIEW_SIDE, image_fields

__all__ = ["router"]

router = APIRouter(tags=["searching"])

_IMAGE_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("image/*", "application/octet-stream")
        },
    }
}


@router.get("/api/search")
async def search_again(
    engine: EngineOfApp, sources: Sources, ranking: Ranking
) -> schemas.SearchResponse:
    """Search with an image of the collection, or one that was sent; or with several of one thing.

    Of several, similarities count by their mean, and the matches of the one that most fit with.
    """
    return _response(await engine.search(sources, ranking))


@router.post("/api/search", openapi_extra=_IMAGE_BODY)
async def search_with(
    request: Request, engine: EngineOfApp, region: Part, ranking: Ranking
) -> schemas.SearchResponse:
    """Search with an image: the body is its file."""
    engine.pool.check_free()  # before the image is sent for nothing
    async with engine.uploads.receive(request) as data:
        answer = await engine.search([QuerySource(data, region)], ranking)
    return _response(answer)


@router.post("/api/queries", openapi_extra=_IMAGE_BODY)
async def keep_query(request: Request, engine: EngineOfApp) -> schemas.QueryInfo:
    """Send an image to search with later, by its `key`, alone or together with others."""
    engine.pool.check_free()
    async with engine.uploads.receive(request) as data:
        query = await engine.keep(data)
    return _query_info(query, ())


@router.get("/api/match")
async def match(
    engine: EngineOfApp,
    source: Source,
    other: Annotated[int, Query(ge=0, le=MAX_ID, description="Id of the image to match with")],
    model: ModelOfMatches = "homography",
    mirrored: Mirrored = False,
) -> schemas.Match:
    """Match the local features of a query, or of its mirror image, with those of one image."""
    query, verification = await engine.match(source, other, model, mirrored)
    transform_33 = verification.transform_33
    return schemas.Match(
        **_match_fields(verification, query),
        transform=None if transform_33 is None else transform_33.tolist(),
        model=verification.model,
    )


@router.get("/api/queries/{key}/preview", **AS_JPEG)
async def query_preview(request: Request, engine: EngineOfApp, key: str) -> Response:
    """Give an image that was sent, upright, as JPEG of at most 1600 px."""
    return jpeg_response(request, await engine.upload_preview(key, PREVIEW_SIDE), f'"{key}"')


def _response(answer: SearchAnswer) -> schemas.SearchResponse:
    results = []
    for rank, (hit, row) in enumerate(answer.hits, start=1):
        matched: dict[str, Any] = dict.fromkeys(("inliers", "verified", "points", "outline"))
        if hit.verification is not None:
            matched = _match_fields(hit.verification, answer.queries[hit.query])
        scores: dict[str, Any] = {
            "score": round(hit.score, 9),
            "similarity": round(hit.similarity, 6),
            "agreement": None if hit.agreement is None else round(hit.agreement, 6),
        }
        photo = asdict(answer.photos.get(hit.image_id, UNKNOWN))
        fields = scores | image_fields(row, answer.changed) | matched | photo
        fields |= {"query": hit.query, "mirrored": hit.mirrored}
        results.append(schemas.ResultInfo(rank=rank, **fields))
    queries = [_query_info(query, answer.changed) for query in answer.queries]
    return schemas.SearchResponse(
        query=queries[0],
        queries=queries,
        results=results,
        images=answer.n_images,
        reranked=answer.n_matched,
        verified=answer.n_verified,
        min_inliers=MIN_INLIERS,
        without_date=answer.left_out.get("without_date"),
        without_position=answer.left_out.get("without_position"),
        state=answer.state,
        seconds=schemas.Seconds(**answer.seconds),
    )


def _query_info(query: SearchQuery, changed: Container[int]) -> schemas.QueryInfo:
    row, region = query.row, query.region
    of_row = {} if row is None else image_fields(row, changed)
    preview = of_row.get("preview", f"/api/queries/{query.key}/preview")
    return schemas.QueryInfo(
        key=query.key,
        id=None if row is None else row.image_id,
        path=None if row is None else row.path,
        width=query.width,
        height=query.height,
        region=None if region is None else (region.left, region.top, region.width, region.height),
        n_features=0 if query.features is None else len(query.features),
        preview=preview,
        changed=of_row.get("changed", False),
    )


def _match_fields(verification: Verification, query: SearchQuery) -> dict[str, Any]:
    outline_42 = verification.outline_42(query.region_or_whole)
    ends = verification.query_xy_m2.tolist(), verification.match_xy_m2.tolist()
    return {
        "inliers": verification.n_inliers,
        "verified": verification.verified,
        "points": [tuple(round(x, 1) for x in (*a, *b)) for a, b in zip(*ends, strict=True)],
        "outline": None if outline_42 is None else outline_42.round(1).tolist(),
    }

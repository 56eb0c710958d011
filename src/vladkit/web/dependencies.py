"""Dependencies of routes: the engine of the app, and query parameters that routes share."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from fastapi import Depends, Query, Request

from vladkit.collection.search_options import SearchOptions
from vladkit.collection.where import Where
from vladkit.images.region import Region
from vladkit.web.engine import Engine
from vladkit.web.limits import MAX_EXPAND, MAX_RERANK, MAX_TOP
from vladkit.web.problems import Problem
from vladkit.web.queries import QuerySource

__all__ = ["MAX_ID", "EngineOfApp", "ModelOfMatches", "Part", "Ranking", "Source"]

MAX_ID = 2**62
"""Largest id that is looked up; SQLite's integers end at 2^63."""


def engine_of(request: Request) -> Engine:
    """The engine that `vladkit.web.app.make_app` was given."""
    engine: Engine = request.app.state.engine
    return engine


def parsed_region(
    region: Annotated[
        str | None, Query(max_length=60, description="Part of the query: left,top,width,height")
    ] = None,
) -> Region | None:
    """The part of the query to search by."""
    return None if region is None else Region.parse(region)


EngineOfApp: TypeAlias = Annotated[Engine, Depends(engine_of)]
Part: TypeAlias = Annotated[Region | None, Depends(parsed_region)]
ModelOfMatches: TypeAlias = Annotated[
    Literal["homography", "fundamental"], Query(description="Geometry that matches have to fit")
]


def query_source(
    region: Part,
    image_id: Annotated[
        int | None, Query(alias="id", ge=0, le=MAX_ID, description="Id of an image to search with")
    ] = None,
    query: Annotated[
        str | None, Query(max_length=40, description="`query.key` of an earlier answer")
    ] = None,
) -> QuerySource:
    """The image to search with: one of the collection, or one that was sent before."""
    if query is not None and image_id is None:
        return QuerySource(query, region)
    if image_id is not None and query is None:
        return QuerySource(image_id, region)
    raise Problem(422, "give either id, of an image of the collection, or query")


def filter_parameters(
    under: Annotated[
        str | None, Query(max_length=4096, description="Only images of this folder, as indexed")
    ] = None,
    after: Annotated[
        str | None, Query(max_length=20, description="Only photos taken from this date on: 2024-05")
    ] = None,
    before: Annotated[
        str | None, Query(max_length=20, description="Only photos taken before this date")
    ] = None,
    near: Annotated[
        str | None,
        Query(max_length=80, description="Only photos taken within KM of a place: LAT,LON,KM"),
    ] = None,
) -> Where:
    """The images that a search is limited to."""
    return Where(under, after, before, near)


def ranking_parameters(
    where: Annotated[Where, Depends(filter_parameters)],
    top: Annotated[int, Query(ge=1, le=MAX_TOP, description="Number of results")] = 24,
    rerank: Annotated[
        int | None,
        Query(
            ge=0,
            le=MAX_RERANK,
            description="Re-rank the top N by local feature matching; 100 where features are kept",
        ),
    ] = None,
    expand: Annotated[
        int, Query(ge=0, le=MAX_EXPAND, description="Query expansion with the top N results")
    ] = 0,
    model: ModelOfMatches = "homography",
) -> SearchOptions:
    """The parameters of a search besides its query."""
    return SearchOptions(top, rerank, expand, model, where=where)


Source: TypeAlias = Annotated[QuerySource, Depends(query_source)]
Ranking: TypeAlias = Annotated[SearchOptions, Depends(ranking_parameters)]

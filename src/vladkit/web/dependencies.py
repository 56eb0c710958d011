"""Dependencies of routes: the engine of the app, and query parameters that routes share."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from fastapi import Depends, Query, Request
from pydantic import Field

from vladkit.collection.search_options import SearchOptions
from vladkit.collection.where import NamedWhere, Where
from vladkit.images.region import Region
from vladkit.web.engine import Engine
from vladkit.web.limits import MAX_EXPAND, MAX_QUERIES, MAX_RERANK, MAX_TOP
from vladkit.web.problems import Problem
from vladkit.web.queries import QuerySource

__all__ = [
    "MAX_ID",
    "EngineOfApp",
    "Mirrored",
    "ModelOfMatches",
    "Part",
    "Ranking",
    "Source",
    "Sources",
]

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
Mirrored: TypeAlias = Annotated[
    bool, Query(description="With the mirror image of the query, too: takes twice the time")
]


def query_sources(
    region: Part,
    image_id: Annotated[
        list[Annotated[int, Field(ge=0, le=MAX_ID)]] | None,
        Query(alias="id", description="Id of an image to search with; several: of one thing"),
    ] = None,
    query: Annotated[
        list[Annotated[str, Field(max_length=40)]] | None,
        Query(description="`key` of an image that was sent; several: of one thing"),
    ] = None,
) -> list[QuerySource]:
    """The images to search with: those that were sent before, then those of the collection."""
    sources = [QuerySource(image, region) for image in [*(query or ()), *(image_id or ())]]
    if not sources:
        raise Problem(422, "give id, of an image of the collection, or query")
    if len(sources) > MAX_QUERIES:
        raise Problem(422, f"{len(sources)} images of one thing: at most {MAX_QUERIES}")
    return sources


def query_source(sources: Annotated[list[QuerySource], Depends(query_sources)]) -> QuerySource:
    """The one image to match with."""
    if len(sources) > 1:
        raise Problem(422, "give either id, of an image of the collection, or query: one of them")
    return sources[0]


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
    return NamedWhere(under, after, before, near)


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
    mirrored: Mirrored = False,
) -> SearchOptions:
    """The parameters of a search besides its query."""
    return SearchOptions(top, rerank, expand, model, where=where, mirrored=mirrored)


Sources: TypeAlias = Annotated[list[QuerySource], Depends(query_sources)]
Source: TypeAlias = Annotated[QuerySource, Depends(query_source)]
Ranking: TypeAlias = Annotated[SearchOptions, Depends(ranking_parameters)]

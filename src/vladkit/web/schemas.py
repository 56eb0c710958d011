"""Answers of the API, as OpenAPI describes them.

Coordinates are px of the original upright image, the origin at the centre of its top-left px.
"""

from __future__ import annotations

from pydantic import BaseModel, Field

from vladkit.web.limits import MAX_PAGE, MAX_QUERIES, MAX_RERANK, MAX_TOP

__all__ = [
    "Health",
    "ImageInfo",
    "ImagePage",
    "Info",
    "LimitsInfo",
    "Match",
    "ProblemInfo",
    "QueryInfo",
    "ResultInfo",
    "SearchResponse",
    "Seconds",
    "SkippedInfo",
    "SkippedPage",
    "SourceInfo",
]


class ProblemInfo(BaseModel):
    """Problem JSON (RFC 9457, application/problem+json)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(description="For people: the problem and its fix")
    retry_after: int | None = Field(None, description="Seconds to wait before trying again")


class Health(BaseModel):
    """State of the server and its collection."""

    status: str
    version: str
    images: int
    state: str = Field(description="Another one after each change of what a search finds")


class SourceInfo(BaseModel):
    """An indexed folder or source."""

    name: str
    root: str


class LimitsInfo(BaseModel):
    """Maxima of one request."""

    upload_bytes: int
    upload_pixels: int
    top: int = MAX_TOP
    rerank: int = MAX_RERANK
    page: int = MAX_PAGE
    queries: int = MAX_QUERIES


class Info(BaseModel):
    """Facts about the collection."""

    name: str
    file: str
    images: int
    skipped: int
    bytes: int
    dimensions: int | None
    clusters: int | None
    keeps_features: bool = Field(description="Whether results can be re-ranked and matched")
    whitened: bool
    augmented: bool
    approximate: bool
    sources: list[SourceInfo]
    version: str
    limits: LimitsInfo
    min_inliers: int = Field(description="Least number of inliers that verifies a match")


class ImageInfo(BaseModel):
    """An image of the collection."""

    id: int
    path: str
    width: int | None = Field(description="px, upright; null: not known")
    height: int | None
    n_features: int
    thumbnail: str = Field(description="Address of a small JPEG")
    preview: str = Field(description="Address of an upright JPEG of at most 1600 px")
    file: str = Field(description="Address of the file itself")
    changed: bool = Field(description="Whether the file is another one than was indexed")


class ImagePage(BaseModel):
    """Part of the list of images, by source and path."""

    total: int
    offset: int
    items: list[ImageInfo]


class SkippedInfo(BaseModel):
    """An image that could not be used."""

    id: int
    path: str
    reason: str


class SkippedPage(BaseModel):
    """Part of the list of images that could not be used."""

    total: int
    offset: int
    items: list[SkippedInfo]


class QueryInfo(BaseModel):
    """The query of a search."""

    key: str | None = Field(description="Name of an image that was sent, for more searches with it")
    id: int | None = Field(description="Id of an image of the collection")
    path: str | None
    width: int | None = Field(description="px, upright; null: not known")
    height: int | None
    region: tuple[int, int, int, int] | None = Field(description="left, top, width, height")
    n_features: int
    preview: str = Field(description="Address of an upright JPEG of at most 1600 px")
    changed: bool = Field(description="As of an image; false of one that was sent")


class Match(BaseModel):
    """Matches of a query with an image, and the geometry that they fit."""

    inliers: int = Field(description="Matches that fit one geometry")
    verified: bool = Field(description="Whether there are enough inliers to show the same thing")
    points: list[tuple[float, float, float, float]] = Field(
        description="x, y in the query and x, y in the image; the clearest match first"
    )
    outline: list[tuple[float, float]] | None = Field(
        description="Corners of the query, or of its region, in the image"
    )
    transform: list[list[float]] | None = Field(
        description="The homography from query to image, or the fundamental matrix"
    )
    model: str


class ResultInfo(ImageInfo):
    """A result of a search."""

    rank: int
    score: float = Field(description="The ranking is by this")
    similarity: float = Field(description="Cosine similarity of the vectors")
    agreement: float | None = Field(
        description="Similarity of the match codes, 1 for the same image; null: not compared"
    )
    inliers: int | None = Field(description="null if not re-ranked, like the next three")
    verified: bool | None
    points: list[tuple[float, float, float, float]] | None
    outline: list[tuple[float, float]] | None
    query: int = Field(description="Number, from 0, of the one of `queries` that it matches")
    mirrored: bool = Field(description="Whether the mirror image of the query was found")
    taken: str | None = Field(description="YYYY-MM-DD HH:MM:SS on the camera's clock, by EXIF")
    latitude: float | None = Field(description="Degrees, north positive")
    longitude: float | None = Field(description="Degrees, east positive")
    camera: str | None


class Seconds(BaseModel):
    """Seconds by step."""

    features: float
    search: float


class SearchResponse(BaseModel):
    """Ranked results of a search."""

    query: QueryInfo
    queries: list[QueryInfo] = Field(description="All images that were searched with together")
    results: list[ResultInfo]
    images: int = Field(description="Number of ranked images: those that the filters let through")
    reranked: int = Field(description="Number of first images that were matched")
    verified: int | None = Field(description="How many of those are verified; null: none matched")
    min_inliers: int
    without_date: int | None = Field(
        description="How many images a filter by date left out because it is not known; null: none"
    )
    without_position: int | None = Field(description="The same of a filter by place")
    state: str = Field(description="As of `/api/health`, when the search began")
    seconds: Seconds

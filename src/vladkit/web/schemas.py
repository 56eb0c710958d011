"""The API's answers, as OpenAPI describes them.

Coordinates are px of the original upright image, the origin at the centre of its top-left px.
"""

from __future__ import annotations

from pydantic import BaseModel, Field

from vladkit.web.limits import MOST_LISTED, MOST_RERANKED, MOST_RESULTS

__all__ = [
    "Answer",
    "Health",
    "ImageInfo",
    "ImagePage",
    "Info",
    "LimitsInfo",
    "Match",
    "ProblemInfo",
    "QueryInfo",
    "ResultInfo",
    "Seconds",
    "SkippedInfo",
    "SkippedPage",
    "SourceInfo",
]


class ProblemInfo(BaseModel):
    """What went wrong (RFC 9457, application/problem+json)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(description="For people: what is wrong and how to mend it")
    retry_after: int | None = Field(None, description="Seconds after which to try again")


class Health(BaseModel):
    """That the server can read its collection."""

    status: str
    version: str
    images: int


class SourceInfo(BaseModel):
    """A folder that was indexed."""

    name: str
    root: str


class LimitsInfo(BaseModel):
    """The most that one request may ask for."""

    upload_bytes: int
    upload_pixels: int
    top: int = MOST_RESULTS
    rerank: int = MOST_RERANKED
    page: int = MOST_LISTED


class Info(BaseModel):
    """The collection."""

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
    min_inliers: int = Field(description="Inliers from which two images show the same thing")


class ImageInfo(BaseModel):
    """An image of the collection."""

    id: int
    path: str
    width: int
    height: int
    n_features: int
    thumbnail: str = Field(description="Where a small JPEG of it is")
    image: str = Field(description="Where an upright JPEG of at most 1600 px is")
    file: str = Field(description="Where the file itself is")


class ImagePage(BaseModel):
    """Some of the collection's images, by source and path."""

    total: int
    offset: int
    items: list[ImageInfo]


class SkippedInfo(BaseModel):
    """An image that could not be used."""

    id: int
    path: str
    reason: str


class SkippedPage(BaseModel):
    """Some of the images that could not be used."""

    total: int
    offset: int
    items: list[SkippedInfo]


class QueryInfo(BaseModel):
    """What was searched with."""

    key: str | None = Field(description="Names an image that was sent, for more searches with it")
    id: int | None = Field(description="Of an image of the collection")
    path: str | None
    width: int
    height: int
    region: tuple[int, int, int, int] | None = Field(description="left, top, width, height")
    n_features: int
    image: str


class Match(BaseModel):
    """How a query lies on an image."""

    inliers: int = Field(description="Matches that fit one geometry")
    verified: bool = Field(description="Whether they are enough to prove the same thing")
    points: list[tuple[float, float, float, float]] = Field(
        description="x, y in the query, x, y in the image; the clearest match first"
    )
    outline: list[tuple[float, float]] | None = Field(
        description="Where the corners of the query, or its region, lie in the image"
    )
    transform: list[list[float]] | None = Field(
        description="The homography from query to image, or the fundamental matrix"
    )
    model: str


class ResultInfo(ImageInfo):
    """An image that was found."""

    rank: int
    score: float = Field(description="What the ranking goes by")
    similarity: float = Field(description="Cosine of the vectors")
    inliers: int | None = Field(description="null where it was not re-ranked; so are the next")
    verified: bool | None
    points: list[tuple[float, float, float, float]] | None
    outline: list[tuple[float, float]] | None


class Seconds(BaseModel):
    """Where the time went."""

    features: float
    search: float


class Answer(BaseModel):
    """A ranking."""

    query: QueryInfo
    results: list[ResultInfo]
    images: int = Field(description="How many were ranked")
    reranked: int
    min_inliers: int
    seconds: Seconds

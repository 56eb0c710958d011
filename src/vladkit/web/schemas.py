"""The API's answers, as OpenAPI describes them.

Coordinates are px of the original upright picture, the origin at the centre of its top-left px.
"""

from __future__ import annotations

from pydantic import BaseModel, Field

from vladkit.web.limits import MOST_LISTED, MOST_RERANKED, MOST_RESULTS

__all__ = [
    "Answer",
    "Health",
    "Info",
    "LimitsInfo",
    "Match",
    "PictureInfo",
    "PicturePage",
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
    pictures: int


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
    pictures: int
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
    min_inliers: int = Field(description="Inliers from which two pictures show the same thing")


class PictureInfo(BaseModel):
    """A picture of the collection."""

    id: int
    path: str
    width: int
    height: int
    n_features: int
    thumbnail: str = Field(description="Where a small JPEG of it is")
    image: str = Field(description="Where an upright JPEG of at most 1600 px is")
    file: str = Field(description="Where the file itself is")


class PicturePage(BaseModel):
    """Some of the collection's pictures, by source and path."""

    total: int
    offset: int
    items: list[PictureInfo]


class SkippedInfo(BaseModel):
    """A picture that could not be used."""

    id: int
    path: str
    reason: str


class SkippedPage(BaseModel):
    """Some of the pictures that could not be used."""

    total: int
    offset: int
    items: list[SkippedInfo]


class QueryInfo(BaseModel):
    """What was searched with."""

    key: str | None = Field(description="Names a picture that was sent, for more searches with it")
    id: int | None = Field(description="Of a picture of the collection")
    path: str | None
    width: int
    height: int
    region: tuple[int, int, int, int] | None = Field(description="left, top, width, height")
    n_features: int
    image: str


class Match(BaseModel):
    """How a query lies on a picture."""

    inliers: int = Field(description="Matches that fit one geometry")
    verified: bool = Field(description="Whether they are enough to prove the same thing")
    points: list[tuple[float, float, float, float]] = Field(
        description="x, y in the query, x, y in the picture; the clearest match first"
    )
    outline: list[tuple[float, float]] | None = Field(
        description="Where the corners of the query, or its region, lie in the picture"
    )
    transform: list[list[float]] | None = Field(
        description="The homography from query to picture, or the fundamental matrix"
    )
    model: str


class ResultInfo(PictureInfo):
    """A picture that was found."""

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
    pictures: int = Field(description="How many were ranked")
    reranked: int
    min_inliers: int
    seconds: Seconds

"""How much a client may ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["MOST_LISTED", "MOST_RERANKED", "MOST_RESULTS", "Limits"]

MOST_RESULTS: Final = 500
MOST_RERANKED: Final = 500
MOST_LISTED: Final = 200
"""Images of one answer: results, those that are matched with the query, and those of a page."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of `vladkit serve`; what is beyond gets an answer of 4xx or 503.

    Parameters
    ----------
    upload_bytes, upload_seconds
        Of an image that is sent: its size, and the time until all of it is here.
    held_bytes : int
        Of all images that are being sent or waiting to be searched with.
    upload_pixels : int
        Of it, as it is decoded: a large JPEG is decoded at 1/2 to 1/8 and counts as that.
    search_seconds : float
        An answer that takes longer is given up. The search itself ends by itself.
    queue : int
        Searches that wait for a free thread; further ones are told to come again.
    connections : int
        At one time; further ones are closed.
    header_seconds, request_seconds : float
        Until a request's header is here, and until its answer has been taken.
    cache_bytes : int
        For thumbnails, and as much again for the images and features of queries.
    """

    upload_bytes: int = 32 << 20
    upload_seconds: float = 60.0
    held_bytes: int = 256 << 20
    upload_pixels: int = 50_000_000
    search_seconds: float = 60.0
    queue: int = 16
    connections: int = 256
    header_seconds: float = 10.0
    request_seconds: float = 180.0
    cache_bytes: int = 64 << 20

"""Bounds of what a client may ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["MAX_EXPAND", "MAX_PAGE", "MAX_QUERIES", "MAX_RERANK", "MAX_TOP", "Limits"]

MAX_TOP: Final = 500
MAX_RERANK: Final = 500
MAX_EXPAND: Final = 50
MAX_PAGE: Final = 200
MAX_QUERIES: Final = 8
"""Images of one request: results, re-ranked ones, those of a query expansion, those of a list, and
those that are searched with together."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of `vladkit serve`; requests beyond them are answered with 4xx or 503.

    Parameters
    ----------
    upload_bytes : int
        Largest image that can be sent.
    upload_seconds : float
        Time until all of an image has arrived.
    held_bytes : int
        Bytes of all images that are being sent or wait to be searched with.
    upload_pixels : int
        Most px of an image that is sent, as it is decoded: a large JPEG is decoded at 1/2 to 1/8
        of its size and counts as that.
    decode_seconds : float
        Time for decoding an image, sent or indexed.
    decode_bytes : int
        Memory of a process that decodes, all that it has mapped included (Linux only).
    search_seconds : float
        Time until a search is answered with 503. The search itself goes on to its end.
    queue : int
        Number of searches that wait for a free thread.
    connections : int
        Number of connections at one time; for a further one, one that is idle is closed.
    header_seconds : float
        Time until the header of a request has arrived.
    request_seconds : float
        Time until a request has been answered and the client has taken the answer.
    cache_bytes : int
        Size of each of three caches: thumbnails, images that were sent, features of queries.
    """

    upload_bytes: int = 32 << 20
    upload_seconds: float = 60.0
    held_bytes: int = 256 << 20
    upload_pixels: int = 50_000_000
    decode_seconds: float = 10.0
    decode_bytes: int = 4 << 30
    search_seconds: float = 60.0
    queue: int = 16
    connections: int = 256
    header_seconds: float = 10.0
    request_seconds: float = 180.0
    cache_bytes: int = 64 << 20

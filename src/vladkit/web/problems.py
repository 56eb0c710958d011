"""Errors as clients see them: problem JSON (RFC 9457)."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from vladkit.errors import (
    FileFormatError,
    ImageError,
    ModelError,
    NothingToIndexError,
    ParameterError,
    StorageError,
    VladkitError,
)

__all__ = ["Problem", "problem_of"]


class Problem(Exception):  # noqa: N818  (the RFC's word)
    """An answer that says why a request failed.

    Parameters
    ----------
    status : int
        HTTP status code.
    detail : str
        The problem and its fix, for people.
    retry_after : int or None
        Seconds until another try makes sense.
    """

    def __init__(self, status: int, detail: str, *, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.retry_after = retry_after

    def body(self) -> bytes:
        """Problem JSON."""
        content: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.retry_after is not None:
            content["retry_after"] = self.retry_after
        return json.dumps(content).encode()

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Headers of the answer, besides those that every answer has."""
        found = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(self.body())).encode()),
            (b"cache-control", b"no-store"),
        ]
        if self.retry_after is not None:
            found.append((b"retry-after", str(self.retry_after).encode()))
        if self.status == HTTPStatus.UNAUTHORIZED:
            found.append((b"www-authenticate", b'Bearer realm="vladkit"'))
        return found


def problem_of(error: VladkitError) -> Problem:
    """The problem that clients see for an error of the library."""
    if isinstance(error, ImageError):
        if error.transient:
            return Problem(503, f"the image cannot be read now: {error.reason}", retry_after=5)
        return Problem(422, f"the image cannot be used: {error.reason}")
    if isinstance(error, ParameterError):
        return Problem(422, str(error))
    if isinstance(error, NothingToIndexError):
        return Problem(409, "the collection is empty: index images into it first")
    if isinstance(error, FileFormatError):
        return Problem(
            503,
            "the collection is damaged: vladkit check names where; the server's terminal says more",
        )
    if isinstance(error, StorageError):
        return Problem(
            503,
            "the collection cannot be read now; the server's terminal says why",
            retry_after=5,
        )
    if isinstance(error, ModelError):
        return Problem(
            503,
            "the network that found this collection's features is not available: search with one "
            "of its images; the server's terminal says more",
        )
    return Problem(500, "the collection cannot be searched; the server's terminal says why")

"""Images that clients send: all in memory, so bounded one by one and together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request
from starlette.requests import ClientDisconnect

from vladkit.web.limits import Limits
from vladkit.web.problems import Problem

__all__ = ["Uploads"]


class Uploads:
    """Receives the bodies of requests within limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.n_held = 0  # bytes that have arrived and are not yet dealt with

    @asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[bytes]:
        """The body, which counts as held until the block ends.

        Raises
        ------
        Problem
            415 if the content type is not that of an image, 413 if the image is too large, 408 if
            it comes too slowly, 503 if too many bytes are held for others.
        """
        _check_content_type(request.headers.get("content-type", ""))
        limits = self._limits
        most = f"at most {limits.upload_bytes / 2**20:.0f} MB"
        length = request.headers.get("content-length", "0")
        if length.isdigit() and int(length) > limits.upload_bytes:
            raise Problem(413, f"{int(length) / 2**20:,.0f} MB: {most}")
        data = bytearray()
        n_held = 0
        try:
            async with asyncio.timeout(limits.upload_seconds):
                async for chunk in request.stream():
                    data += chunk
                    n_held += len(chunk)
                    self.n_held += len(chunk)
                    if len(data) > limits.upload_bytes:
                        raise Problem(413, f"the image is too large: {most}")
                    if self.n_held > limits.held_bytes:
                        raise Problem(503, "too many images are being sent", retry_after=2)
            yield bytes(data)
        except ClientDisconnect:
            raise Problem(400, "the image was not sent to its end") from None  # nobody reads it
        except TimeoutError:
            seconds = f"{limits.upload_seconds:g}"
            raise Problem(408, f"the image did not arrive within {seconds} s") from None
        finally:
            self.n_held -= n_held


def _check_content_type(content_type: str) -> None:
    kind = content_type.partition(";")[0].strip().lower()
    # Pages of other sites can send forms and text without being asked for permission.
    if not kind.startswith("image/") and kind != "application/octet-stream":
        raise Problem(415, f"content type {kind[:60]!r}: send the bytes of an image as image/*")

"""Checks of every request before the app, and security headers of every answer."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qs, urlsplit

from vladkit.web.problems import Problem

__all__ = ["Guard"]

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_HEADERS: Final = {
    b"content-security-policy": CONTENT_SECURITY_POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
}


class Guard:
    """Checks the origin and the token of requests; adds security headers to answers.

    Parameters
    ----------
    app : ASGI app
        Answers the requests that pass.
    hosts : frozenset of str
        Allowed names in the Host header, besides ``localhost`` and numeric addresses. Another
        site can have its own name point to this machine (DNS rebinding) and then counts as the
        same origin: its requests carry that name, and are refused.
    token : str or None
        Access token that a client must send to use ``/api``: as ``Authorization: Bearer``, or in
        the cookie that ``/?token=`` sets.
    """

    def __init__(self, app: App, *, hosts: frozenset[str], token: str | None) -> None:
        self._app = app
        self._hosts = hosts | {"localhost"}
        self._token = token

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer an ASGI request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        is_head = scope["method"] == "HEAD"  # the answer to GET, without its body

        async def send_guarded(message: Message) -> None:
            if is_head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            if message["type"] == "http.response.start":
                known = {name.lower() for name, _ in message["headers"]}
                extra = [(name, v) for name, v in _HEADERS.items() if name not in known]
                if b"cache-control" not in known and scope["path"].startswith("/api"):
                    extra.append((b"cache-control", b"no-store"))  # what is private stays so
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        headers = {n.decode("latin-1"): v.decode("latin-1") for n, v in scope["headers"]}
        try:
            self._check_origin(scope, headers)
            if self._token is not None:
                if scope["path"] == "/" and (given := _query_token(scope)) is not None:
                    await self._let_in(given, send_guarded)
                    return
                if scope["path"].startswith("/api"):
                    self._check_token(headers)
        except Problem as problem:
            await _send_problem(problem, send_guarded)
            return
        if is_head:
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send_guarded)

    def _check_origin(self, scope: Message, headers: dict[str, str]) -> None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            raise Problem(
                421,
                f"{host[:100]!r} is not a name of this server: open the address that it printed, "
                "or start it with --allow-host",
            )
        if not scope["path"].startswith("/api"):
            return
        origin = _netloc(headers.get("origin"))
        site = headers.get("sec-fetch-site", "same-origin")
        if (origin is not None and origin != host) or site == "cross-site":
            raise Problem(403, "pages of other sites may not use this server")

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True  # nobody can point a numeric address elsewhere

    def _check_token(self, headers: dict[str, str]) -> None:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token(given.strip()):
            return
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._cookie_name())
        except CookieError:
            cookie = None
        if cookie is not None and hmac.compare_digest(
            cookie.value.encode(), self._cookie().encode()
        ):
            return
        raise Problem(
            401,
            "this server needs a token: open the address that it printed, with ?token=, or send "
            "the token as Authorization: Bearer",
        )

    async def _let_in(self, given: str, send: Send) -> None:
        if not self._is_token(given):
            raise Problem(401, "this is not the token of this server")
        # Lax: a link in a mail works too; requests of other sites to /api are refused anyway.
        cookie = f"{self._cookie_name()}={self._cookie()}; Path=/; HttpOnly; SameSite=Lax"
        headers = [(b"location", b"/"), (b"set-cookie", cookie.encode()), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self._token or "").encode())

    def _cookie_name(self) -> str:
        """Name of the cookie by the token: browsers send a server those of all ports."""
        digest = hashlib.sha256(f"vladkit cookie name {self._token}".encode()).hexdigest()
        return f"vladkit_token_{digest[:8]}"

    def _cookie(self) -> str:
        """Value of the cookie; not the token itself, because browsers keep cookies on disk."""
        return hashlib.sha256(f"vladkit cookie {self._token}".encode()).hexdigest()


def _netloc(origin: str | None) -> str | None:
    """Host and port of an Origin header; "" for one that has none, None without a header."""
    try:
        return None if origin is None else urlsplit(origin).netloc
    except ValueError:  # such as http://[x
        return ""


def _query_token(scope: Message) -> str | None:
    found = parse_qs(scope["query_string"].decode("latin-1")).get("token")
    return found[0] if found else None


async def _send_problem(problem: Problem, send: Send) -> None:
    start = {"type": "http.response.start", "status": problem.status, "headers": problem.headers()}
    await send(start)
    await send({"type": "http.response.body", "body": problem.body()})

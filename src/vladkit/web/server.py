"""`serve`: the app on a socket, until the process is interrupted."""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Final

from vladkit.errors import MissingDependencyError, ParameterError, StorageError

if TYPE_CHECKING:
    import uvicorn

    from vladkit.web.engine import Engine

__all__ = ["check_token", "is_loopback", "make_server", "serve"]

_SHORTEST_TOKEN: Final = 8
_NAME: Final = re.compile("[A-Za-z0-9._-]+")

_SHUTDOWN_SECONDS: Final = 3
"""Time that running requests have to end after an interrupt."""


def serve(
    path: str | os.PathLike[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    allowed_hosts: Iterable[str] = (),
    upload_bytes: int | None = None,
    n_jobs: int | None = None,
    trust: bool = False,
    device: str | None = None,
    ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve a collection's page and API until the process is interrupted.

    Parameters
    ----------
    path : path
        File of the collection; it is opened for reading only.
    host : str
        Address to listen on. With any but this machine's loopback address, everybody who can
        reach it sees all images, unless there is a token.
    port : int
        Port to listen on; 0 takes a free one.
    token : str or None
        Access token for clients; "auto" generates one.
    allowed_hosts : iterable of str
        Additional allowed names in the Host header, besides localhost and this machine's own.
    upload_bytes : int or None
        Largest image that can be sent; None is the default of `vladkit.web.limits.Limits`.
    n_jobs : int or None
        Number of searches at one time; None is one for each core.
    trust, device
        See `vladkit.Collection.open`.
    ready : callable
        Called with the address of the page, when it can be opened.

    Raises
    ------
    MissingDependencyError
        If the extra ``web`` is not installed.
    ParameterError
        If the host or port does not fit, an allowed host is no bare name, or the token is shorter
        than 8 characters.
    StorageError
        If the port is taken, or the collection cannot be read.
    FileFormatError
        If there is no collection at `path`.
    """
    try:
        import fastapi  # noqa: F401
        import pebble  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError("serve needs FastAPI: pip install 'vladkit[web]'") from error
    from dataclasses import replace

    from vladkit.collection.collection import Collection
    from vladkit.web.engine import Engine
    from vladkit.web.limits import Limits

    token = check_token(token)
    names = frozenset(_bare_name(host) for host in allowed_hosts)
    with Collection.open(path, read_only=True):
        pass  # a wrong file is refused before anything is served
    limits = Limits()
    if upload_bytes is not None:
        limits = replace(limits, upload_bytes=upload_bytes)
    listening = _listen(host, port)
    engine = Engine(path, limits, n_jobs=n_jobs, trust=trust, device=device)
    engine.warm_up()
    if not is_loopback(host):
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    server = make_server(engine, hosts=names, token=token)
    with _ended_by_signals(server):
        try:
            ready(_address(host, listening.getsockname()[1], token))
            server.run(sockets=[listening])
        finally:
            listening.close()
            engine.close()


@contextmanager
def _ended_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """Signals end the server from here on, not only once it runs.

    Until then Python would raise KeyboardInterrupt wherever it is just then. In a destructor or a
    callback, of an import for one, it prints that and goes on: the server would never end.
    """
    if threading.current_thread() is not threading.main_thread():  # no other receives signals
        yield
        return
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)
        server.handle_exit(number, frame)

    numbers = signal.SIGINT, signal.SIGTERM
    before = {number: signal.signal(number, receive) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
    if received:  # uvicorn raises those again that it has handled
        signal.raise_signal(received[0])


def make_server(
    engine: Engine, *, hosts: frozenset[str] = frozenset(), token: str | None = None
) -> uvicorn.Server:
    """The server of `serve`, without a socket yet; parameters as in `vladkit.web.guard.Guard`."""
    import uvicorn

    from vladkit.web.app import make_app
    from vladkit.web.connection import impatient
    from vladkit.web.guard import Guard

    config = uvicorn.Config(
        Guard(make_app(engine), hosts=hosts, token=token),
        http=impatient(engine.limits),
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=int(engine.limits.header_seconds),
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    return uvicorn.Server(config)


def check_token(token: str | None) -> str | None:
    """The token to use; ParameterError if it is too short or cannot be sent in a header."""
    if token == "auto":
        return secrets.token_urlsafe(16)
    if token is None:
        return None
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        raise ParameterError(
            f"a token of {len(token)} characters: give {_SHORTEST_TOKEN} or more, letters and "
            "digits, or 'auto'"
        )
    return token


def _bare_name(host: str) -> str:
    """A name as `vladkit.web.guard.Guard` compares it; ParameterError for one that never fits."""
    if not _NAME.fullmatch(host):
        raise ParameterError(
            f"allowed host {host!r}: give a name without scheme, port and *, such as "
            "photos.example.org (xn--... for letters beyond ASCII)"
        )
    return host.lower()


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can reach a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port < 1 << 16:
        raise ParameterError(f"port {port}: give 0 to 65535")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        # With the protocol's number: asyncio sends small answers at once (TCP_NODELAY) only where
        # it knows that it is TCP. Else each on a kept connection waits some 40 ms for the last one.
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ParameterError(f"host {host!r}: {error.strerror}") from error
    try:
        if sys.platform != "win32":  # there it would share a port that is in use
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(256)
    except OSError as error:
        listening.close()
        raise StorageError(
            f"cannot listen on {host} port {port}: {error.strerror}; give another --port"
        ) from error
    return listening


def _address(host: str, port: int, token: str | None) -> str:
    """Address of the page, as a browser on this machine opens it."""
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        name = host
    else:
        if number.is_unspecified:  # all addresses: the name by which others reach this machine
            name = socket.gethostname()
        else:
            name = f"[{number}]" if number.version == 6 else str(number)
    return f"http://{name}:{port}/" + ("" if token is None else f"?token={token}")

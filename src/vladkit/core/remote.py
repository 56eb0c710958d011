"""Files elsewhere, named by URLs: listed and read through fsspec, with the credentials it finds.

fsspec and what it needs come with the extra ``cloud``, and are imported when a URL is used. An
error says what is wrong in words of ours: texts of the libraries may hold addresses and keys.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

from vladkit.errors import MissingDependencyError, ParameterError, StorageError, VladkitError

__all__ = [
    "Status",
    "check_no_name",
    "check_target",
    "check_there",
    "check_url",
    "exists",
    "in_64_bits",
    "is_below",
    "is_url",
    "joined",
    "list_files",
    "local_path",
    "read_file",
    "without_query",
    "write_file",
]

Status: TypeAlias = tuple[int, int]
"""Size in bytes, and a number that differs when the object has changed, see `list_files`."""

_NEEDS: Final = {"s3": "s3fs", "gs": "gcsfs", "https": "aiohttp", "http": "aiohttp"}
"""Library that reads the URLs of each scheme, beside fsspec."""

_PREFIXES: Final = tuple(f"{scheme}://" for scheme in _NEEDS)

_SECOND: Final = 1_000_000_000
"""ns."""

_REASONS: Final = {
    "no credentials: give them as the provider's own tools take them, "
    "see docs/how-to/collections.md": (
        {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "RefreshError"}
        | {"DefaultCredentialsError", "TokenRetrievalError", "UnauthorizedSSOTokenError"}
    ),
    "the server cannot be reached": (
        {"EndpointConnectionError", "ConnectionClosedError", "ClientConnectorError"}
        | {"ClientConnectorDNSError", "ServerDisconnectedError", "ClientOSError"}
        | {"ConnectionRefusedError", "ConnectionResetError", "ClientPayloadError"}
    ),
    "the server does not answer in time": (
        {"FSTimeoutError", "TimeoutError", "ConnectTimeoutError", "ReadTimeoutError"}
        | {"ServerTimeoutError", "ConnectionTimeoutError", "SocketTimeoutError"}
    ),
    "the server does not answer as it should": {"HTTPClientError", "ServerConnectionError"},
}
"""Reasons in our words by the names of errors, whose libraries may not be there."""

_DENIED: Final = "access denied: are these the right credentials?"

_VERSION: Final = "?versionId="
"""Begin, behind an object's key, of what s3fs takes for a version of it, and leaves out."""


def is_url(path: object) -> bool:
    """Tell whether a path is the URL of a file elsewhere; nothing is looked up.

    Examples
    --------
    >>> [is_url(path) for path in ("s3://photos/a.jpg", "photos/a.jpg", "file:///photos/a.jpg")]
    [True, False, False]
    """
    return isinstance(path, str) and path.startswith(_PREFIXES)


def local_path(path: str) -> str:
    """The path that a ``file://`` URL of this machine stands for; any other path as it is.

    A file has no query and no fragment: ``?`` and ``#`` are letters of its name.

    Examples
    --------
    >>> local_path("file:///photos/a%20b#1.jpg"), local_path("a.jpg")
    ('/photos/a b#1.jpg', 'a.jpg')
    >>> local_path("file://host/photos/a.jpg")
    'file://host/photos/a.jpg'
    """
    host, slash, below = path.removeprefix("file://").partition("/")
    if not path.startswith("file://") or host not in ("", "localhost"):
        return path
    from urllib.request import url2pathname

    return url2pathname(slash + below)


def joined(folder: str, path: str) -> str:
    """The path of a file below a folder, or its URL, whose path stays as it is.

    Examples
    --------
    >>> joined("s3://photos/a", "b//c.jpg"), joined("/photos/a", "../b.jpg")
    ('s3://photos/a/b//c.jpg', '/photos/b.jpg')
    """
    if is_url(folder):
        return f"{folder.rstrip('/')}/{path}"
    return os.path.normpath(os.path.join(folder, path))


def without_query(url: str) -> str:
    """A path or URL for messages and pages: what may be a signature is left out.

    Examples
    --------
    >>> without_query("https://host/a.jpg?signature=1"), without_query("what?.jpg")
    ('https://host/a.jpg?...', 'what?.jpg')
    """
    return re.sub(r"\?.*", "?...", url) if url.startswith(("http://", "https://")) else url


def is_below(url: str, folders: Sequence[str]) -> bool:
    """Tell whether a URL is below one of some, however a server may read its path."""
    parts = unquote(url).replace("\\", "/").split("/")
    return not {".", ".."} & set(parts) and any(
        is_url(folder) and url.startswith(joined(folder, "")) for folder in folders
    )


def check_url(url: str) -> None:
    """Raise unless a URL can be used.

    Raises
    ------
    ParameterError
        If it holds a user's name or password, or no name of a bucket or host.
    MissingDependencyError
        If the library that reads it is not installed.
    """
    scheme, _, _ = url.partition("://")
    if not check_no_name(url):
        raise ParameterError(f"{url}: give {scheme}://NAME/...")
    for library in ("fsspec", _NEEDS[scheme]):
        if find_spec(library) is None:
            raise MissingDependencyError(
                f"{scheme}:// needs {library}: pip install 'vladkit[cloud]'"
            )


def check_no_name(url: str) -> str:
    """Host or bucket of a URL; ParameterError if a user's name or password stands before it."""
    scheme, _, rest = url.partition("://")
    host = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    if "@" in host:
        raise ParameterError(
            f"{scheme}://...@{host.rpartition('@')[2]}: a URL with a name or password is refused, "
            "it would be stored and shown: give credentials as the provider's own tools take them"
        )
    return host


def check_there(url: str) -> None:
    """Raise StorageError, with the URL, unless something can be read there."""
    check_url(url)
    with _explained(f"{without_query(url)}: "):
        _check_page(url, _files(url).info(_plain(url)))


def list_files(url: str) -> tuple[str, list[tuple[str, Status]]]:
    """List the objects below a URL, and the one that is at it.

    The time of a change is known to the second; the digits below hold a hash of the object's ETag,
    so that two changes in one second differ.

    Returns
    -------
    folder : str
        URL that paths are relative to.
    files : list of (path, status)
        Sorted by path; empty if there is nothing.

    Raises
    ------
    StorageError
        If it cannot be listed; the message has the URL.
    """
    check_url(url)
    scheme = url.partition("://")[0]
    above, _, name = url.rpartition("/")
    with _explained(f"{without_query(url)}: "):
        if scheme.startswith("http"):
            info = _files(url).info(url)
            _check_page(url, info)
            return above, [(name, _status(info))]
        found = _files(url).find(_plain(url), detail=True)
        # a bucket may have a.jpg and a.jpg/b.jpg, of which only what is below is found
        if found and "." in name and _plain(url) not in found and _files(url).isfile(_plain(url)):
            found[_plain(url)] = _files(url).info(_plain(url))
    root = above if _plain(url) in found else url.rstrip("/")
    start = len(_plain(root)) + 1
    if not all(each.startswith(f"{_plain(root)}/") for each in found):  # s3fs drops a first slash
        raise StorageError(
            f"{url}: write one / behind the bucket; objects whose keys begin with / are found by "
            "the bucket alone"
        )
    files = [(each[start:], _status(info)) for each, info in found.items() if each[-1:] != "/"]
    return root, sorted(files)


def read_file(
    url: str,
    check_size: Callable[[int], None],
    *,
    n_bytes: int | None = None,
    redirects: bool = True,
) -> bytes:
    """Read a file elsewhere.

    Parameters
    ----------
    url : str
    check_size : callable (n_bytes)
        Raises if that is too large; called before the file is read where its size is known.
    n_bytes : int or None
        Its size, where it was listed: one request less.
    redirects : bool, default=True
        Follow redirects of a web server, to wherever they lead.

    Raises
    ------
    StorageError
        If it cannot be read: the reason, without the URL.
    ParameterError, MissingDependencyError
        As `check_url`.
    """
    check_url(url)
    is_web = url.startswith("http")
    with _explained():
        files = _files(url, redirects=redirects)
        if n_bytes is None:
            n_bytes = files.info(_plain(url))["size"]
        if n_bytes is not None:
            check_size(n_bytes)
        if not is_web:
            data: bytes = files.cat_file(_plain(url))
            return data
        chunks: list[bytes] = []
        with files.open(url, block_size=0, size=n_bytes or 1) as stream:  # 0: as it comes
            if stream.r.status >= 300:
                raise StorageError("the server sends elsewhere, which is not followed here")
            while chunk := stream.read(1 << 20):
                chunks.append(chunk)
                check_size(sum(map(len, chunks)))
        return b"".join(chunks)


def check_target(url: str) -> None:
    """Refuse, before the work, a URL that could not be written after it.

    Raises
    ------
    ParameterError, MissingDependencyError
        As `check_url`; or if it is of a web server.
    StorageError
        If there is no such bucket, or it cannot be reached. Rights are not known before.
    """
    check_url(url)
    if url.startswith("http"):
        raise ParameterError(f"cannot write {without_query(url)}: give a file, s3:// or gs://")
    bucket = "/".join(url.split("/")[:3])
    if url.rstrip("/") == bucket:
        raise ParameterError(f"cannot write {url}: give the name of an object in that bucket")
    with _explained(f"cannot write {url}: "):
        _plain(url)
    try:
        with _explained(f"{bucket}: "):
            _files(url).info(_plain(bucket))
    except StorageError as error:
        if _DENIED not in str(error):  # to write below a prefix may be all that is allowed
            raise


def exists(url: str) -> bool:
    """Tell whether something is at a URL; StorageError, with it, if that cannot be known."""
    with _explained(f"{url}: "):
        return bool(_files(url).exists(_plain(url)))


def write_file(path: str, url: str) -> None:
    """Copy a file to a URL: whole, or not at all; StorageError as `read_file`."""
    check_url(url)
    with _explained():
        _files(url).put_file(path, _plain(url))


def _plain(url: str) -> str:
    """A URL as fsspec names it: a bucket and a key, or all of a web address.

    StorageError if s3fs would take a part of it for a version, and use the present object.
    """
    if url.startswith("s3://") and _VERSION in url:
        raise StorageError(
            f"{_VERSION}... stands for a version, and only objects as they are now are used: leave "
            "it out, or rename an object that has it in its name"
        )
    return url if url.startswith("http") else url.partition("://")[2].rstrip("/")


def _files(url: str, *, redirects: bool = True) -> Any:
    redirects = redirects or not url.startswith("http")
    return _file_system(url.partition("://")[0], redirects, os.getpid())


@lru_cache
def _file_system(scheme: str, redirects: bool, _pid: int) -> Any:
    """The file system of fsspec: one for all threads, which would have a client each."""
    import fsspec

    options = {} if redirects else {"allow_redirects": False}
    return fsspec.filesystem(scheme, skip_instance_cache=True, use_listings_cache=False, **options)


def _status(info: dict[str, Any]) -> Status:
    from datetime import datetime
    from email.utils import parsedate_to_datetime
    from hashlib import blake2b

    tag = next((info[k] for k in ("ETag", "etag", "md5Hash", "Content-MD5") if info.get(k)), "")
    below = int.from_bytes(blake2b(str(tag).encode(), digest_size=8).digest()) % _SECOND
    changed = next((info[k] for k in ("LastModified", "mtime", "Last-Modified") if info.get(k)), 0)
    if isinstance(changed, str):
        try:
            changed = parsedate_to_datetime(changed)
        except ValueError:  # a server may say what it likes; its tag and the size tell changes
            changed = 0
    seconds = int(changed.timestamp()) if isinstance(changed, datetime) else int(changed)
    return info["size"] or 0, in_64_bits(seconds * _SECOND + (below if tag else 0))


def in_64_bits(ns: int) -> int:
    """A time in ns as 64 bits with a sign hold it.

    Broken clocks and archives make times after the year 2262, which wrap around: they still tell a
    changed file.
    """
    return (ns + 2**63) % 2**64 - 2**63


def _check_page(url: str, info: dict[str, Any]) -> None:
    if info.get("mimetype") == "text/html" or (url.startswith("http") and url.endswith("/")):
        raise StorageError("a web server does not list its files: give the address of each image")


@contextmanager
def _explained(before: str = "") -> Iterator[None]:
    """Raise StorageError, with a reason in our words, in the place of what libraries raise."""
    try:
        yield
    except StorageError as error:
        raise StorageError(f"{before}{error}") from None
    except VladkitError:
        raise
    except Exception as error:  # of botocore, aiohttp, google-auth, and Python's own
        raise StorageError(before + _reason(error)) from None


def _reason(error: BaseException) -> str:
    causes = [each for each in (error, error.__cause__) if each is not None]
    names = {kind.__name__ for each in causes for kind in type(each).__mro__}
    reason = next((reason for reason, known in _REASONS.items() if names & known), None)
    status = next(filter(None, map(_http_status, causes)), None)
    if isinstance(error, PermissionError) or status in (401, 403):
        return _DENIED
    if reason is None and isinstance(error, FileNotFoundError) and status in (None, 404, 410):
        return "there is no such bucket" if "bucket" in str(error) else "not found"
    if reason is None and status is not None:
        return f"the server answers {status}"
    return reason or f"it failed ({type(error).__name__})"


def _http_status(error: BaseException) -> int | None:
    """Status of the answer that an error of botocore, aiohttp or gcsfs tells of."""
    answer = getattr(error, "response", None)
    if isinstance(answer, dict):
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        name = "status" if hasattr(error, "status") else "code"  # aiohttp has both, and warns
        status = getattr(error, name, None)
    return status if isinstance(status, int) else None

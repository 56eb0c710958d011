"""Model files: the folder that keeps them, and downloads of the known ones.

A collection holds the sha256 of its model, not the model. So a file may lie anywhere, and another
one in its place is noticed.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from vladkit.core.files import replace_file
from vladkit.errors import ModelError, ParameterError, StorageError
from vladkit.features.onnx.spec import KnownFile, known_networks
from vladkit.features.onnx.weights import weight_files

__all__ = [
    "MODEL",
    "add_model",
    "fetch",
    "find_model",
    "kept_models",
    "known_file",
    "models_folder",
    "sha256_of",
    "weights_beside",
]

MODEL: Final = "VLADKIT_MODEL"
"""Environment variable: the file to use for a collection's network, wherever it was before."""

_FOLDER: Final = "VLADKIT_MODELS"
"""Environment variable: the folder that keeps model files."""

_CHUNK: Final = 1 << 16
"""Bytes that are received or copied at a time, so that progress shows on slow lines."""

_TIMEOUT: Final = 30.0
"""Seconds without an answer after which a server counts as gone."""

Progress = Callable[[str, int, int], None]


def models_folder() -> Path:
    """Folder in which `vladkit models` keeps files: VLADKIT_MODELS, or in the user's cache.

    Raises
    ------
    StorageError
        If neither is known: a container may run as a user who has no home.
    """
    if given := os.environ.get(_FOLDER):
        return Path(given)
    name, below = {
        "win32": ("LOCALAPPDATA", "AppData/Local"), "darwin": ("", "Library/Caches")
    }.get(sys.platform, ("XDG_CACHE_HOME", ".cache"))  # fmt: skip
    try:
        cache = Path(os.environ.get(name) or Path.home() / below)
    except RuntimeError:
        raise StorageError(
            f"no folder keeps models, because this user has no home: set {_FOLDER}=FOLDER"
        ) from None
    return cache / "vladkit" / "models"


def sha256_of(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a model, as 64 hexadecimal digits.

    Of the bytes of its file; then of the name and bytes of each file beside it that it keeps its
    weights in, in the order of their names.

    Raises
    ------
    ModelError
        If one cannot be read.
    """
    try:
        digest = hashlib.sha256(Path(path).read_bytes())
        for name in weights_beside(path):
            digest.update(name.encode() + b"\0")
            with open(Path(path).with_name(name), "rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
    except OSError as error:
        if isinstance(error, ModelError):
            raise
        what = error.filename or path
        raise ModelError(f"model {what}: {(error.strerror or str(error)).lower()}") from error
    return digest.hexdigest()


def weights_beside(path: str | os.PathLike[str]) -> list[str]:
    """Names of the files in a model's folder that it keeps its weights in.

    Raises
    ------
    ModelError
        If one is to be in another folder.
    """
    try:
        names = weight_files(Path(path).read_bytes())
    except ValueError:  # no model: ONNX Runtime says so
        return []
    for name in names:
        if not name or name != os.path.basename(name) or name in (".", ".."):
            raise ModelError(f"model {path} keeps weights in {name!r}: only its own folder is read")
        if not Path(path).with_name(name).is_file():  # a FIFO would be waited for
            raise ModelError(f"model {path} keeps weights in {name}, which is no file beside it")
    return names


def known_file(name: str) -> KnownFile:
    """Known model of that name.

    Raises
    ------
    ParameterError
        If no known model has that name.
    """
    known = {each.name: each for each in known_networks() if each.sha256}
    if name not in known:
        raise ParameterError(f"no known model is called {name!r}: use {', '.join(known)}")
    return known[name]


def kept_models() -> Iterator[Path]:
    """Paths of the model files in `models_folder`; none where there is no such folder."""
    with suppress(StorageError):
        yield from sorted(models_folder().glob("*.onnx"))


def find_model(path: str, sha256: str, n_bytes: int, in_place: bool = True) -> Path:
    """Find the file of a collection's network: in its place, at VLADKIT_MODEL, or kept.

    Parameters
    ----------
    path : str
        Its path when the collection was made.
    sha256, n_bytes
        Hash and size of the file.
    in_place : bool
        Whether it may be read at `path`, if that is absolute.

    Raises
    ------
    ModelError
        If it is nowhere, or another file is in its place; says how to fix it.
    """
    given = os.environ.get(MODEL)
    if given:
        if sha256_of(given) != sha256:
            raise ModelError(
                f"{given} (from {MODEL}) is another model: the collection was made with the one of "
                f"sha256 {sha256}"
            )
        return Path(given)
    named = Path(path)
    in_place = in_place and named.is_absolute()
    if in_place and _is_it(named, sha256, n_bytes):
        return named
    for kept in kept_models():
        if _is_it(kept, sha256, n_bytes):
            return kept
    trouble = "is not used from there: this machine did not index with it"
    if in_place:
        trouble = "is another file now" if os.path.exists(named) else "is not there"
    known = next((each for each in known_networks() if each.sha256 == sha256), None)
    fetching = f"vladkit models fetch {known.name}`, or `" if known and known.url else ""
    raise ModelError(
        f"the network of this collection, {path}, {trouble} (wanted: sha256 {sha256}, {n_bytes} "
        f"bytes): `{fetching}vladkit models add FILE` with a copy of it, or set {MODEL}=FILE"
    )


def _is_it(path: Path, sha256: str, n_bytes: int) -> bool:
    try:
        return path.is_file() and path.stat().st_size == n_bytes and sha256_of(path) == sha256
    except OSError:
        return False


def add_model(path: str | os.PathLike[str]) -> Path:
    """Copy a model into `models_folder`, where every collection finds it by its sha256.

    Raises
    ------
    ModelError
        If it cannot be read.
    StorageError
        If there is no room, or no right to write.
    """
    source = Path(path)
    sha256 = sha256_of(source)
    if beside := weights_beside(source):
        raise ModelError(
            f"model {path} keeps its weights in {beside[0]}: set {MODEL}=FILE, or save it as one "
            "file (onnx.save_model)"
        )
    for kept in kept_models():
        if _is_it(kept, sha256, source.stat().st_size):
            return kept
    target = _made(models_folder()) / f"{source.stem}-{sha256[:8]}.onnx"
    with open(source, "rb") as file, replace_file(target) as copy:
        while chunk := file.read(_CHUNK):
            copy.write(chunk)
    return target


def fetch(name: str, *, url: str = "", progress: Progress | None = None) -> Path:
    """Download a known model into `models_folder`, unless it is there already.

    Parameters
    ----------
    name : str
        Name in the list of `vladkit models`.
    url : str
        A mirror to take it from; the file must have the known size and sha256 all the same.
    progress : callable or None
        Called as ``progress("fetch", bytes so far, bytes in all)``.

    Raises
    ------
    ParameterError
        If no model has that name, or the address is not http or https.
    ModelError
        If no address is known, the server does not send it, or sends another file; then nothing
        is kept.
    StorageError
        If there is no room, or no right to write.
    """
    known = known_file(name)
    target = models_folder() / f"{known.name}.onnx"
    if _is_it(target, known.sha256, known.n_bytes):
        return target
    address = url or known.url
    if not address:
        raise ModelError(
            f"no address is known that gives {name}: see {known.page}, and `vladkit models add "
            "FILE`"
        )
    if not address.startswith(("https://", "http://")):
        raise ParameterError(f"{address}: give an address that begins with https://")
    _made(target.parent)
    with replace_file(target) as file:
        _receive(address, known, file, progress)
    return target


def _receive(address: str, known: KnownFile, file: BinaryIO, progress: Progress | None) -> None:
    """Download exactly the known file; ModelError for any other."""
    from urllib.request import Request, urlopen

    from vladkit.core.version import __version__

    request = Request(address, headers={"User-Agent": f"vladkit/{__version__}"})
    digest, n = hashlib.sha256(), 0
    try:
        answer = urlopen(request, timeout=_TIMEOUT)
    except OSError as error:  # HTTPError and URLError are
        raise ModelError(f"{address}: {error}") from error
    with answer:
        while True:
            try:
                chunk = answer.read(_CHUNK)
            except (OSError, EOFError) as error:
                raise ModelError(f"{address}: broke off after {n} bytes: {error}") from error
            if not chunk:
                break
            n += len(chunk)
            if n > known.n_bytes:
                raise ModelError(
                    f"{address} gives more than the {known.n_bytes} bytes of {known.name}: it is "
                    "another file"
                )
            digest.update(chunk)
            file.write(chunk)
            if progress:
                progress("fetch", n, known.n_bytes)
    if n < known.n_bytes:
        raise ModelError(f"{address}: {n} bytes came, {known.name} has {known.n_bytes}: try again")
    if digest.hexdigest() != known.sha256:
        raise ModelError(
            f"{address} gives another file: its sha256 is {digest.hexdigest()}, that of "
            f"{known.name} {known.sha256}"
        )


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make {folder}: {error.strerror or error}") from error
    return folder

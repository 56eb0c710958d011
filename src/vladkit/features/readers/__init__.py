"""Readers of features that other programs found, one for each kind of file.

A source is written ``kind:path``; `open_reader` opens it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from vladkit.core.files import is_open_database, is_special_file
from vladkit.errors import FileFormatError, NothingToIndexError, ParameterError

if TYPE_CHECKING:
    from vladkit.features.readers.anyloc import read_anyloc_centroids
    from vladkit.features.readers.reader import Reader, SourceInfo
    from vladkit.features.readers.texmex import map_vecs

__all__ = [
    "KINDS",
    "Reader",
    "SourceInfo",
    "is_source",
    "map_vecs",
    "open_reader",
    "open_vectors",
    "read_anyloc_centroids",
]

KINDS: Final = ("colmap", "hloc", "npz", "parquet", "fvecs", "bvecs", "siftgeo")
"""Kinds of sources, which stand before the colon."""


def is_source(given: str | os.PathLike[str]) -> bool:
    """Tell whether a text is ``kind:path`` and not an image, or a folder, of that name."""
    text = os.fspath(given)
    kind, colon, path = text.partition(":")
    return bool(colon and path) and kind in KINDS and not os.path.lexists(text)


def open_reader(source: str | os.PathLike[str]) -> Reader:
    """Open features that another program found.

    Parameters
    ----------
    source : str or path
        ``colmap:database.db``, ``hloc:features.h5``, ``npz:PATH`` (a folder of .npy or .npz, or
        one), ``parquet:table.parquet``, ``fvecs:PATH``, ``bvecs:PATH`` (a folder, or a file with
        lengths beside it), ``siftgeo:FOLDER``. docs/how-to/features.md describes each layout.

    Returns
    -------
    Reader
        To be closed, or used with ``with``.

    Raises
    ------
    ParameterError
        If the kind is not one of these.
    FileFormatError
        If the file is of another kind, damaged, or holds no descriptors.
    StorageError
        If it cannot be read, or another process is writing to it.
    MissingDependencyError
        If the library that reads it is not installed.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/a.npy", np.ones((3, 8), np.float32))
    ...     with open_reader(f"npz:{folder}") as reader:
    ...         reader.names(), reader.read("a").descriptor_lf.shape, reader.info().dimensions
    (['a'], (3, 8), 8)
    """
    from vladkit.features.readers.reader import NamedErrors, named_errors

    path = os.fspath(source).partition(":")[2]
    with named_errors(path):
        return NamedErrors(_reader(source))


def open_vectors(source: str | os.PathLike[str]) -> Reader:
    """Open vectors, one for an image, that another program made: ``hloc:global.h5``.

    `Reader.read` gives `Features` with ``vector_D``. Errors are those of `open_reader`.
    """
    from vladkit.features.readers.reader import NamedErrors, named_errors

    kind, _, path = os.fspath(source).partition(":")
    if kind != "hloc" or not path:
        raise ParameterError(
            f"vectors={os.fspath(source)!r}: use onnx:MODEL.onnx, a network that gives one vector, "
            "or hloc:global.h5"
        )
    if not os.path.exists(path):
        raise NothingToIndexError(f"{os.fspath(source)}: there is no {path}")
    with named_errors(path):
        return NamedErrors(_reader(source, vectors=True))


def _reader(source: str | os.PathLike[str], *, vectors: bool = False) -> Reader:
    kind, _, path = os.fspath(source).partition(":")
    if is_open_database(path):
        raise FileFormatError(f"{path} is a collection that is open here, no file of features")
    if is_special_file(path):
        raise FileFormatError(f"{path} is no regular file, wanted a file of features")
    if kind == "colmap":
        from vladkit.features.readers.colmap import ColmapReader

        return ColmapReader(path)
    if kind == "hloc":
        from vladkit.features.readers.hloc import HlocReader

        return HlocReader(path, vectors=vectors)
    if kind == "npz":
        from vladkit.features.readers.arrays import open_arrays

        return open_arrays(path)
    if kind == "parquet":
        from vladkit.features.readers.parquet import ParquetReader

        return ParquetReader(path)
    if kind in ("fvecs", "bvecs"):
        from vladkit.features.readers.texmex import open_vecs

        return open_vecs(kind, path)
    if kind == "siftgeo":
        from vladkit.features.readers.texmex import SiftgeoReader

        return SiftgeoReader(path)
    raise ParameterError(f"{source!r}: use {', '.join(f'{each}:PATH' for each in KINDS)}")


def __getattr__(name: str) -> object:
    if name in ("SourceInfo", "Reader"):
        from vladkit.features.readers import reader

        return getattr(reader, name)
    if name == "map_vecs":
        from vladkit.features.readers.texmex import map_vecs

        return map_vecs
    if name == "read_anyloc_centroids":
        from vladkit.features.readers.anyloc import read_anyloc_centroids

        return read_anyloc_centroids
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
